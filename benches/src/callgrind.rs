//! Counting instructions without a hardware counter: a program is run under valgrind's callgrind
//! with N operations and with 2N, and the difference divided by N is the cost of one. Start-up,
//! set-up and the end cancel out. Allocations are the calls of malloc and its kin in the same
//! profile, so nothing has to be built into the program and the allocator is the real one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The functions of the C library that hand out heap memory. None of them calls another.
const ALLOCATORS: [&str; 6] =
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// Why there is no count.
#[derive(Debug)]
pub enum Problem {
    /// valgrind is not installed, or does not start.
    NoValgrind(String),
    /// The program failed or took too long under it.
    Program(String),
    /// The profile cannot be read.
    Profile(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoValgrind(why) => write!(
                f,
                "valgrind does not run ({why}): instructions cannot be counted without it; \
                 install it (Debian and Ubuntu: apt-get install valgrind)"
            ),
            Problem::Program(why) => write!(f, "under callgrind: {why}"),
            Problem::Profile(why) => write!(f, "callgrind's profile: {why}"),
        }
    }
}

impl std::error::Error for Problem {}

/// What valgrind calls itself, if it runs.
///
/// # Errors
/// [`Problem::NoValgrind`].
pub fn version() -> Result<String, Problem> {
    let output = Command::new("valgrind")
        .arg("--version")
        .output()
        .map_err(|e| Problem::NoValgrind(e.to_string()))?;
    if !output.status.success() {
        return Err(Problem::NoValgrind(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a run took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Instructions executed in user space, by all threads.
    pub instructions: u64,
    /// Calls of malloc and its kin.
    pub allocations: u64,
    /// Instructions by function, without what it calls.
    pub functions: BTreeMap<String, u64>,
}

/// What one operation costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Instructions.
    pub instructions: f64,
    /// Heap allocations.
    pub allocations: f64,
    /// Instructions by function, without what it calls.
    pub functions: BTreeMap<String, f64>,
}

/// Environment variables of the runs.
pub type Environment<'a> = &'a [(&'a str, &'a str)];

/// Runs this program with `arguments(n)` and `arguments(2n)` and returns the cost of one
/// operation. Each run is ended after `patience`.
///
/// # Errors
/// [`Problem`].
pub fn cost<A: AsRef<OsStr>>(
    n: u32,
    patience: Duration,
    environment: Environment<'_>,
    arguments: impl Fn(u32) -> Vec<A>,
) -> Result<Cost, Problem> {
    let once = run(&arguments(n), environment, patience)?;
    let twice = run(&arguments(2 * n), environment, patience)?;
    let per = |less: u64, more: u64| {
        // Below 2⁵³, and a difference below zero is only noise around zero.
        #[allow(clippy::cast_precision_loss)]
        let difference = more.saturating_sub(less) as f64 - less.saturating_sub(more) as f64;
        difference / f64::from(n)
    };
    let names: HashSet<&String> = once.functions.keys().chain(twice.functions.keys()).collect();
    let of = |profile: &Profile, name| profile.functions.get(name).copied().unwrap_or(0);
    Ok(Cost {
        instructions: per(once.instructions, twice.instructions),
        allocations: per(once.allocations, twice.allocations),
        functions: names
            .into_iter()
            .map(|name| (name.clone(), per(of(&once, name), of(&twice, name))))
            .collect(),
    })
}

/// Runs this program with `arguments` under callgrind.
fn run<A: AsRef<OsStr>>(
    arguments: &[A],
    environment: Environment<'_>,
    patience: Duration,
) -> Result<Profile, Problem> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let name = format!("origin-benches-{}-{number}.callgrind", std::process::id());
    let file = Scratch(std::env::temp_dir().join(name));
    let program = std::env::current_exe().map_err(|e| Problem::Program(e.to_string()))?;
    let mut out = std::ffi::OsString::from("--callgrind-out-file=");
    out.push(&file.0);
    let mut child = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(out)
        .arg(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Problem::NoValgrind(e.to_string()))?;
    let status = wait(&mut child, patience)?;
    if !status.success() {
        let mut text = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            // What cannot be read is left out of the message.
            let _ = stderr.read_to_string(&mut text);
        }
        return Err(Problem::Program(format!("{status}: {}", text.trim())));
    }
    read(&file.0).map_err(Problem::Profile)
}

/// A file that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may not exist, if valgrind did not come so far.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn wait(child: &mut Child, patience: Duration) -> Result<std::process::ExitStatus, Problem> {
    let end = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                // It may end by itself meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Problem::Program(format!("not over after {patience:?}")));
            }
            Err(e) => return Err(Problem::Program(e.to_string())),
        }
    }
}

fn read(path: &Path) -> Result<Profile, String> {
    parse(BufReader::new(File::open(path).map_err(|e| e.to_string())?))
}

/// Reads callgrind's format: `fn=(id) name` opens a function, a line that begins with a position
/// is a cost of its own, `calls=count …` says how often `cfn=` is called and is followed by the
/// cost of those calls, which belongs to the callee.
fn parse(text: impl BufRead) -> Result<Profile, String> {
    let mut names: HashMap<String, String> = HashMap::new();
    let (mut profile, mut total) = (Profile::default(), None);
    let (mut function, mut callee) = (String::new(), String::new());
    let mut costs_of_call = false;
    for line in text.lines() {
        let line = line.map_err(|e| e.to_string())?;
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "fn" => function = named(&mut names, value),
                "cfn" => callee = named(&mut names, value),
                "calls" => {
                    costs_of_call = true;
                    let count = value.split(' ').next().and_then(|count| count.parse().ok());
                    let count: u64 = count.ok_or_else(|| format!("cannot read {line:?}"))?;
                    if ALLOCATORS.contains(&callee.as_str()) {
                        profile.allocations += count;
                    }
                }
                _ => (),
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            if !std::mem::take(&mut costs_of_call) {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
                let cost: u64 = cost.ok_or_else(|| format!("cannot read {line:?}"))?;
                match profile.functions.get_mut(&function) {
                    Some(sum) => *sum += cost,
                    None => {
                        profile.functions.insert(function.clone(), cost);
                    }
                }
            }
        } else if let Some(sum) = line.strip_prefix("totals: ") {
            total = sum.trim().parse().ok();
        }
    }
    profile.instructions = total.ok_or("it has no total")?;
    Ok(profile)
}

/// Names are written once, with a number that stands for them afterwards. A recursive function
/// has `'2` at its end.
fn named(names: &mut HashMap<String, String>, text: &str) -> String {
    let (id, name) = text.split_once(' ').unwrap_or((text, ""));
    if !name.is_empty() {
        let name = match name.rsplit_once('\'') {
            Some((name, level)) if level.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => name,
        };
        names.insert(id.to_owned(), name.to_owned());
    }
    names.get(id).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read() {
        let text = "version: 1\nevents: Ir\n\nob=(1) /bin/x\nfl=(1) x.rs\nfn=(1) main\n0 10\n+3 5\n\
            cob=(2) libc\ncfn=(2) malloc\ncalls=3 0\n0 100\n\ncfn=(3) work'2\ncalls=1 0\n* 7\n\n\
            fn=(2)\n0 100\n\nfn=(3)\n0 7\n\ntotals: 122\n";
        let profile = parse(text.as_bytes()).unwrap();
        assert_eq!((profile.instructions, profile.allocations), (122, 3));
        assert_eq!(profile.functions["main"], 15);
        assert_eq!(profile.functions["malloc"], 100);
        assert_eq!(profile.functions["work"], 7);
        assert!(parse(&b"fn=(1) main\n"[..]).is_err());
        assert!(parse(&b"calls=x 0\ntotals: 1\n"[..]).is_err());
    }
}
