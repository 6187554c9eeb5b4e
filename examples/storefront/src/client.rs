//! An HTTP client for load: a few HTTP/2 connections that carry any number of requests at once, so
//! that 1,000 callers need no 1,000 file descriptors.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 8;

/// Connections to one service.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connections: Vec<SendRequest<Full<Bytes>>>,
    next: AtomicUsize,
}

/// What came back, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// Opens the connections.
    ///
    /// # Errors
    /// When nobody listens at `address`, or whoever does speaks no HTTP/2.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            connections.push(open(address).await.with_context(|| format!("connecting to {address}"))?);
        }
        Ok(Self { address, connections, next: AtomicUsize::new(0) })
    }

    /// Where it is connected to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When the connection breaks; a status of failure is an answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// `PUT path` with a body of JSON.
    ///
    /// # Errors
    /// When the connection breaks; a status of failure is an answer.
    pub async fn put(&self, path: &str, body: &impl Serialize) -> Result<Answer> {
        self.send(Method::PUT, path, serde_json::to_vec(body)?.into()).await
    }

    /// `POST path` with a body of JSON.
    ///
    /// # Errors
    /// When the connection breaks; a status of failure is an answer.
    pub async fn post_json(&self, path: &str, body: &impl Serialize) -> Result<Answer> {
        self.send(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    /// `POST path` without a body.
    ///
    /// # Errors
    /// When the connection breaks; a status of failure is an answer.
    pub async fn post(&self, path: &str) -> Result<Answer> {
        self.send(Method::POST, path, Bytes::new()).await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// When the connection breaks; a status of failure is an answer.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, Bytes::new()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut connection = self.connections[turn].clone();
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// When the status is not 200, or the body is no `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        ensure!(self.status == StatusCode::OK, "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        Ok(serde_json::from_slice(&self.body)?)
    }
}

async fn open(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection); // Ends when the last sender is dropped.
    Ok(sender)
}
