//! Throughput of uploads and downloads beside the bare client (ureq), in MB/s: a table on stdout.
//! Everything is on loopback and in one process; the server takes what it is sent and knows
//! nothing, so what is measured is the client.
//!
//! `cargo run --release -p origin-benches --bin storage [-- MIB]`; 256 MiB unless told otherwise.
//! *signed* hashes every byte (SHA-256), *unsigned* is `storage.sign_payload = false`. The bare
//! client sends parts of the same size, each from memory, and signs nothing.
#![allow(clippy::print_stdout)] // it prints

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use origin_blocking::Client;
use origin_blocking::core::config::StorageConfig;
use origin_blocking::core::s3::GetOptions;

const PART: usize = 8 << 20;
const ROUNDS: usize = 7;

type Outcome<T> = Result<T, Box<dyn Error>>;
/// What is measured, by its name.
type Run<'a> = (&'a str, Box<dyn Fn() -> Outcome<()> + 'a>);

fn main() -> Outcome<()> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(256), |text| text.parse())?;
    let size = mib << 20;
    let url = serve(size)?;
    let (signed, unsigned) = (client(&url, true)?, client(&url, false)?);
    let bare = ureq::Agent::new_with_defaults();
    let part = vec![7_u8; PART];
    let upload = |client: &Client| -> Outcome<()> {
        let mut upload = client.storage().upload("b", "k");
        for _ in 0..size / PART {
            upload.write_all(&part)?;
        }
        upload.finish()?;
        Ok(())
    };
    let download = |client: &Client| -> Outcome<()> {
        let read =
            client.storage().download("b", "k", GetOptions::default()).get_to(&mut io::sink())?;
        if read == size as u64 { Ok(()) } else { Err("the object is not whole".into()) }
    };
    let runs: [Run<'_>; 6] = [
        (
            "upload, bare ureq",
            Box::new(|| {
                for _ in 0..size / PART {
                    bare.put(format!("{url}/b/k")).send(&part[..])?.body_mut().read_to_vec()?;
                }
                Ok(())
            }),
        ),
        ("upload, unsigned body", Box::new(|| upload(&unsigned))),
        ("upload, signed body", Box::new(|| upload(&signed))),
        (
            "download, bare ureq",
            Box::new(|| {
                let mut body = bare.get(format!("{url}/b/k")).call()?.into_body();
                io::copy(&mut body.as_reader(), &mut io::sink())?;
                Ok(())
            }),
        ),
        ("download, unsigned", Box::new(|| download(&unsigned))),
        ("download, signed", Box::new(|| download(&signed))),
    ];
    println!("| {mib} MiB | MB/s, median of {ROUNDS} | least | most |\n|---|---|---|---|");
    let mut rates = vec![Vec::new(); runs.len()];
    for _ in 0..ROUNDS {
        // In turns, so that what else the machine does falls upon all of them.
        for ((_, run), rates) in runs.iter().zip(&mut rates) {
            let began = Instant::now();
            run()?;
            rates.push(size as f64 / 1e6 / began.elapsed().as_secs_f64());
        }
    }
    for ((name, _), rates) in runs.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} |",
            rates[ROUNDS / 2],
            rates[0],
            rates[ROUNDS - 1]
        );
    }
    Ok(())
}

fn client(url: &str, sign_payload: bool) -> Outcome<Client> {
    let builder = Client::builder().endpoint("storage", url).configure(|config| {
        config.storage = Some(StorageConfig {
            access_key: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_key: origin_blocking::core::Secret::new(
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            ),
            sign_payload,
            ..StorageConfig::default()
        });
    });
    Ok(builder.build()?)
}

/// Takes whatever is sent to it, and gives every object the same content.
fn serve(size: usize) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // A client that hangs up is done.
            thread::spawn(move || drop(answer(socket, size)));
        }
    });
    Ok(url)
}

fn answer(socket: TcpStream, size: usize) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut writer = socket.try_clone()?;
    let mut reader = BufReader::with_capacity(256 << 10, socket);
    let piece = vec![7_u8; 256 << 10];
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().map_err(io::Error::other)?;
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let body = match first.split(' ').next() {
            Some("POST") if first.contains("uploads") => {
                "<InitiateMultipartUploadResult><UploadId>id</UploadId>\
                 </InitiateMultipartUploadResult>"
            }
            Some("POST") => {
                "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
            }
            _ => "",
        };
        if first.starts_with("GET") {
            write!(writer, "HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: {size}\r\n\r\n")?;
            let mut left = size;
            while left > 0 {
                let count = left.min(piece.len());
                writer.write_all(&piece[..count])?;
                left -= count;
            }
            continue;
        }
        let tag = "\"0cc175b9c0f1b6a831c399e269772661\"";
        write!(
            writer,
            "HTTP/1.1 200 OK\r\netag: {tag}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}
