//! Ports that nothing else takes, also not while their server is down for a restart.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// `count` ports that are free on every one of `addresses`, for TCP and UDP. No port is given
/// twice by one process until all were.
///
/// They lie below the range from which the kernel takes the local ports of outgoing connections:
/// a port from there could be lost to any client while its server is restarted. Other processes
/// may be choosing at the same time: a start that finds its port taken is to be tried again.
///
/// # Errors
/// There are no such ports.
pub fn free(addresses: &[Ipv4Addr], count: usize) -> io::Result<Vec<u16>> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let (low, high) = range();
    let width = u32::from(high - low);
    // Processes begin at different places; neighbours in number far from each other.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(7919)));
    let mut ports = Vec::with_capacity(count);
    for _ in 0..width {
        if ports.len() == count {
            return Ok(ports);
        }
        let step = next.fetch_add(1, Ordering::Relaxed) % width;
        let port = low + u16::try_from(step).unwrap_or(0);
        let free = addresses.iter().all(|&address| {
            TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok()
        });
        if free {
            ports.push(port);
        }
    }
    Err(io::Error::other(format!("no {count} free ports between {low} and {high}")))
}

/// From 10 000 up to the kernel's own range; where that leaves little, some of the kernel's.
fn range() -> (u16, u16) {
    let own = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = own.split_whitespace().next().and_then(|first| first.parse().ok());
    match first.unwrap_or(32_768) {
        first @ 12_000.. => (10_000, first),
        _ => (10_000, 60_000),
    }
}
