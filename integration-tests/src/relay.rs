//! One address behind which servers take turns, as a name is that leads to whoever is the primary.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Passes on what comes to its port. Must be used in a tokio runtime; ends when it is dropped.
pub struct Relay {
    addr: SocketAddr,
    leads: Arc<Mutex<Leads>>,
    listening: AbortHandle,
}

struct Leads {
    to: SocketAddr,
    connections: Vec<AbortHandle>,
}

impl Relay {
    /// Leads to `to` first.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let leads = Arc::new(Mutex::new(Leads { to, connections: Vec::new() }));
        let listening = tokio::spawn(listen(listener, leads.clone())).abort_handle();
        Self { addr, leads, listening }
    }

    /// Where it listens, as a client of Redis is told.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Ends all connections; whoever connects from here on comes to `to`.
    pub fn lead_to(&self, to: SocketAddr) {
        let mut leads = lock(&self.leads);
        leads.to = to;
        leads.connections.drain(..).for_each(|connection| connection.abort());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
        lock(&self.leads).connections.drain(..).for_each(|connection| connection.abort());
    }
}

async fn listen(listener: TcpListener, leads: Arc<Mutex<Leads>>) {
    while let Ok((mut caller, _)) = listener.accept().await {
        // Under the lock, so that no connection to the last one begins after it was left.
        let mut leads = lock(&leads);
        let to = leads.to;
        let pass_on = async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut caller, &mut server).await;
            }
        };
        leads.connections.push(tokio::spawn(pass_on).abort_handle());
    }
}

fn lock(leads: &Mutex<Leads>) -> MutexGuard<'_, Leads> {
    leads.lock().unwrap_or_else(PoisonError::into_inner)
}
