//! The tool on a terminal.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::bench::{Bounded, Room, world};

/// On a terminal of its own, which `script` makes.
#[cfg(target_os = "linux")]
#[test]
fn top_gives_the_terminal_back() {
    let script = Command::new("script").arg("--version").output();
    if script.is_err() {
        assert!(std::env::var_os("CI").is_none(), "no `script`: nothing was tested");
        let _ = writeln!(std::io::stderr(), "no `script` here: NOTHING WAS TESTED");
        return;
    }
    let world = world();
    let room = Room::new();
    let (modes, pid) = (room.0.join("modes"), room.0.join("pid"));
    // The modes of the terminal before and after, and the tool in between.
    let inside = format!(
        "stty -g >{modes}; sh -c 'echo $$ >{pid}; exec {tool} top --interval 100ms'; echo code $?; \
         stty -g >>{modes}",
        modes = modes.display(),
        pid = pid.display(),
        tool = env!("CARGO_BIN_EXE_origin"),
    );
    for by_signal in [false, true] {
        let _ = fs::remove_file(&pid);
        let mut command = Command::new("script");
        command.args(["-qec", &inside, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.env("ORIGIN_DISCOVERY", world.discovery_url());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let _bounded = Bounded::of(&child);
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = Vec::new();
        // Until the first frame is there to its last line.
        while !text_of(&seen).contains("q quit") {
            let mut piece = [0; 4096];
            let count = output.read(&mut piece).unwrap();
            assert!(count > 0, "{}", text_of(&seen));
            seen.extend_from_slice(&piece[..count]);
        }
        if by_signal {
            let pid = fs::read_to_string(&pid).unwrap();
            Command::new("kill").args(["-INT", pid.trim()]).status().unwrap();
        } else {
            input.write_all(b"jkpq").unwrap();
        }
        output.read_to_end(&mut seen).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success());
        let seen = text_of(&seen);
        assert!(seen.contains("code 0"), "{seen:?}");
        for (there, back) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
            assert!(seen.contains(there) && seen.rfind(back) > seen.rfind(there), "{seen:?}");
        }
        let modes = fs::read_to_string(&modes).unwrap();
        let modes: Vec<&str> = modes.lines().collect();
        assert_eq!(modes[0], modes[1], "by signal: {by_signal}");
    }
}

#[cfg(target_os = "linux")]
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
