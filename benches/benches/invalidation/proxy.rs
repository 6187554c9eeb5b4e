//! A proxy that counts round trips: how often a client speaks after the server did.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Between a client and a server; lives as long as the program. For one connection at a time that waits for
/// each answer; what several send at once is not told apart.
pub(crate) struct Proxy {
    address: SocketAddr,
    trips: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        let trips = Arc::new(AtomicUsize::new(0));
        let counted = trips.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { return };
                let asked = Arc::new(AtomicBool::new(false));
                let (trips, answered) = (counted.clone(), asked.clone());
                pass_on(&client, &server, move || {
                    if !asked.swap(true, Ordering::SeqCst) {
                        trips.fetch_add(1, Ordering::SeqCst);
                    }
                });
                pass_on(&server, &client, move || answered.store(false, Ordering::SeqCst));
            }
        });
        Self { address, trips }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Round trips so far.
    pub(crate) fn trips(&self) -> usize {
        self.trips.load(Ordering::SeqCst)
    }
}

/// Copies in a thread of its own until one side is gone; says so before each part.
fn pass_on(from: &TcpStream, to: &TcpStream, mut said: impl FnMut() + Send + 'static) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    thread::spawn(move || {
        let mut part = [0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut part) {
            said();
            if to.write_all(&part[..n]).is_err() {
                break;
            }
        }
    });
}
