//! The port of a server: reserved for its whole life, listening only when it
//! should. Who serves an accepted stream is somebody else's business.
//!
//! The reservation is a second socket, bound to the port and never listening.
//! On Linux a bound socket refuses connections, keeps the kernel from giving
//! the port to anybody else (also as the local port of a connecting client,
//! which could otherwise connect to itself), and, with `SO_REUSEADDR` on both,
//! lets a listener come and go on the same port.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// Enough for a burst of connecting clients; the kernel caps it anyway.
const BACKLOG: i32 = 1024;

/// A reserved port.
#[derive(Debug)]
pub(crate) struct Port {
    addr: SocketAddr,
    // Held for its effect on the kernel, never used.
    _reservation: Socket,
}

impl Port {
    /// Reserves a free port on 127.0.0.1.
    pub(crate) fn reserve() -> io::Result<Port> {
        let reservation = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = reservation.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Port { addr, _reservation: reservation })
    }

    /// The reserved address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts to listen and hands every accepted stream to `admit`.
    pub(crate) fn listen(
        &self,
        admit: impl Fn(TcpStream) + Send + 'static,
    ) -> io::Result<Listening> {
        let socket = bound(self.addr)?;
        socket.listen(BACKLOG)?;
        let listener = Arc::new(TcpListener::from(socket));
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = {
            let (listener, stopped) = (Arc::clone(&listener), Arc::clone(&stopped));
            thread::Builder::new()
                .name("lab-accept".into())
                .stack_size(64 * 1024)
                .spawn(move || accept_all(&listener, &stopped, admit))?
        };
        Ok(Listening { listener: Some(listener), stopped, thread: Some(thread) })
    }
}

fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn accept_all(listener: &TcpListener, stopped: &AtomicBool, admit: impl Fn(TcpStream)) {
    while !stopped.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => {
                if !stopped.load(Ordering::Acquire) {
                    admit(stream);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if stopped.load(Ordering::Acquire) => {}
            // Out of descriptors, or a client that left before it was
            // accepted: neither may end the server nor spin a core.
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// A listening port; dropping it refuses connections from then on.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: Option<Arc<TcpListener>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(listener) = self.listener.take() {
            // Linux takes the socket out of the listening state and wakes the
            // accept; elsewhere this fails and a connection has to wake it.
            if SockRef::from(&*listener).shutdown(Shutdown::Both).is_err()
                && let Ok(addr) = listener.local_addr()
            {
                let _ = TcpStream::connect_timeout(&addr, Duration::from_millis(100));
            }
        }
        if let Some(thread) = self.thread.take() {
            // The accepting thread runs no code of a caller: nothing to hear.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::sync::mpsc;

    #[test]
    fn a_reserved_port_refuses_until_it_listens_and_again_after() {
        let port = Port::reserve().unwrap();
        for _ in 0..20 {
            let refused = TcpStream::connect(port.addr()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let (sender, accepted) = mpsc::channel();
            let listening = port
                .listen(move |stream| {
                    let _ = sender.send(stream);
                })
                .unwrap();
            let _client = TcpStream::connect(port.addr()).unwrap();
            accepted.recv_timeout(Duration::from_secs(5)).unwrap();
            drop(listening);
        }
    }

    #[test]
    fn the_kernel_gives_a_reserved_port_to_nobody() {
        let port = Port::reserve().unwrap();
        let others: Vec<Port> = (0..200).map(|_| Port::reserve().unwrap()).collect();
        assert!(others.iter().all(|other| other.addr() != port.addr()));
    }
}
