//! Listening sockets: binds them, accepts within the limits, and ends their connections when the broker stops.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Connection, ConnectionContext, ConnectionError};
use super::frame_reader::ReadError;
use super::network_threads::NetworkThreads;
use crate::config::Listener;

/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener's socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: cannot listen on {host}:{port}: {source}{}", hint(.source))]
pub struct BindError {
    name: String,
    host: String,
    port: u16,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process listens there; set listeners=PLAINTEXT://127.0.0.1:PORT)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        _ => "",
    }
}

/// Sizes of sockets' kernel buffers; `None` leaves the system's.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    pub backlog: i32,
    pub receive_buffer_bytes: Option<usize>,
    pub send_buffer_bytes: Option<usize>,
}

/// Binds a listener. The address that it got is returned too: port 0 takes any free one.
pub fn bind(
    listener: &Listener,
    options: SocketOptions,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let host = match listener.host.as_str() {
        "" => "0.0.0.0",
        host => host,
    };
    open(host, listener.port, options).map_err(|source| BindError {
        name: listener.name.clone(),
        host: host.to_owned(),
        port: listener.port,
        source,
    })
}

fn open(host: &str, port: u16, options: SocketOptions) -> io::Result<(TcpListener, SocketAddr)> {
    let address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the host name has no address"))?;
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit the sizes; set later, the receive window would not scale to them.
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// The bounds on open connections.
#[derive(Clone, Debug)]
pub struct ConnectionMaxima {
    pub connections: usize,
    pub connections_per_ip: usize,
    /// Other bounds for some addresses.
    pub per_ip_overrides: HashMap<IpAddr, usize>,
    /// What the process's descriptors allow.
    pub by_open_files: usize,
}

/// An entry of max.connections.per.ip.overrides that is no host and number.
#[derive(Debug, thiserror::Error)]
#[error("max.connections.per.ip.overrides: {entry:?} is not host:number{}", .source.as_ref().map_or(String::new(), |error| format!(" ({error})")))]
pub struct OverrideError {
    entry: String,
    source: Option<io::Error>,
}

/// Reads max.connections.per.ip.overrides. A name stands for all its addresses.
pub fn parse_overrides(text: &str) -> Result<HashMap<IpAddr, usize>, OverrideError> {
    let mut overrides = HashMap::new();
    for entry in text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let fail = |source| OverrideError {
            entry: entry.to_owned(),
            source,
        };
        let (host, number) = entry.rsplit_once(':').ok_or_else(|| fail(None))?;
        let number = number.trim().parse().map_err(|_| fail(None))?;
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let addresses = (host, 0)
            .to_socket_addrs()
            .map_err(|error| fail(Some(error)))?;
        overrides.extend(addresses.map(|address| (address.ip(), number)));
    }
    Ok(overrides)
}

/// Counts open connections over all listeners.
#[derive(Debug)]
pub struct ConnectionQuotas {
    maxima: ConnectionMaxima,
    open: Mutex<Open>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
    /// The limit that refused last, until a connection ends.
    refused_for: Option<&'static str>,
}

impl ConnectionQuotas {
    pub fn new(maxima: ConnectionMaxima) -> Self {
        Self {
            maxima,
            open: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    /// Counts a connection in, or names the config whose limit it would break.
    fn admit(&self, ip: IpAddr) -> Result<(), &'static str> {
        let ip = ip.to_canonical();
        let maxima = &self.maxima;
        let per_ip_max = maxima.per_ip_overrides.get(&ip);
        let mut open = self.open.lock();
        if open.all >= maxima.connections {
            return Err("max.connections");
        }
        if open.all >= maxima.by_open_files {
            return Err("open files");
        }
        let of_ip = open.by_ip.get(&ip).copied().unwrap_or(0);
        if of_ip >= *per_ip_max.unwrap_or(&maxima.connections_per_ip) {
            return Err("max.connections.per.ip");
        }
        open.by_ip.insert(ip, of_ip + 1);
        open.all += 1;
        Ok(())
    }

    /// True for the first refusal since there was room.
    fn says_so(&self, limit: &'static str) -> bool {
        let mut open = self.open.lock();
        let first = open.refused_for != Some(limit);
        open.refused_for = Some(limit);
        first
    }

    fn release(&self, ip: IpAddr) {
        let ip = ip.to_canonical();
        let mut open = self.open.lock();
        open.all -= 1;
        open.refused_for = None;
        if let Some(of_ip) = open.by_ip.get_mut(&ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                open.by_ip.remove(&ip);
            }
        }
    }
}

struct Admitted {
    quotas: Arc<ConnectionQuotas>,
    context: Arc<ConnectionContext>,
    ip: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.quotas.release(self.ip);
        self.context.metrics.connections.dec();
    }
}

/// Accepts and serves until the broker stops, then answers what is in flight.
pub async fn serve(
    listener: TcpListener,
    context: Arc<ConnectionContext>,
    quotas: Arc<ConnectionQuotas>,
    threads: Arc<NetworkThreads>,
) {
    let mut stopping = context.stopping.clone();
    let mut connections = JoinSet::new();
    let mut failing = false;
    while !*stopping.borrow() {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(listener = &*context.listener, "accepting connections again");
                    }
                    admit(stream, peer, &context, &quotas, &threads, &mut connections);
                }
                // The peer left while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors, above all. The connection stays in the backlog.
                    context.metrics.accepts_failed.inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(listener = &*context.listener, %error, "cannot accept connections; trying again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => note_end(&context, ended),
            _ = stopping.changed() => {}
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(context.limits.drain, async {
        while let Some(ended) = connections.join_next().await {
            note_end(&context, ended);
        }
    });
    if drained.await.is_err() {
        // Who is left waits for records or members that will not come from here.
        connections.shutdown().await;
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    context: &Arc<ConnectionContext>,
    quotas: &Arc<ConnectionQuotas>,
    threads: &NetworkThreads,
    connections: &mut JoinSet<()>,
) {
    if let Err(limit) = quotas.admit(peer.ip()) {
        context
            .metrics
            .connections_refused
            .with_label_values(&[limit])
            .inc();
        // Not a line each at any level that is on by default: who is refused comes again at once.
        if quotas.says_so(limit) {
            tracing::warn!(%peer, limit, "refusing connections: the limit is reached");
        }
        return;
    }
    context.metrics.connections_accepted.inc();
    context.metrics.connections.inc();
    let admitted = Admitted {
        quotas: Arc::clone(quotas),
        context: Arc::clone(context),
        ip: peer.ip(),
    };
    // Small answers must not wait for the client's acknowledgement of earlier ones.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let id = quotas.next_id.fetch_add(1, Ordering::Relaxed);
    let stream = match stream.into_std() {
        Ok(stream) => stream,
        Err(error) => return note_failure(context, peer, &ReadError::from(error).into()),
    };
    let context = Arc::clone(context);
    threads.serve(connections, |relay| async move {
        // From here on the socket's events are this thread's.
        let served = match TcpStream::from_std(stream) {
            Ok(stream) => {
                let connection = Connection::new(context, stream, peer, id, relay);
                connection.run().await
            }
            Err(error) => Err(ReadError::from(error).into()),
        };
        if let Err(error) = served {
            note_failure(&admitted.context, peer, &error);
        }
    });
}

fn note_failure(context: &ConnectionContext, peer: SocketAddr, error: &ConnectionError) {
    if error.is_disconnect() {
        tracing::debug!(%peer, %error, "a client went away");
        return;
    }
    let cause = error.cause();
    context
        .metrics
        .connections_failed
        .with_label_values(&[cause])
        .inc();
    tracing::warn!(listener = &*context.listener, %peer, cause, %error, "closed a connection");
}

fn note_end(context: &ConnectionContext, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        context
            .metrics
            .connections_failed
            .with_label_values(&["panic"])
            .inc();
        tracing::error!(%error, "a connection's task died; this is a bug");
    }
}

/// The stop signal that listeners and connections watch.
pub fn stop_signal() -> (watch::Sender<bool>, watch::Receiver<bool>) {
    watch::channel(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maxima(connections: usize, connections_per_ip: usize) -> ConnectionMaxima {
        ConnectionMaxima {
            connections,
            connections_per_ip,
            per_ip_overrides: HashMap::new(),
            by_open_files: 1000,
        }
    }

    #[test]
    fn quotas_name_the_limit_and_count_back() {
        let quotas = ConnectionQuotas::new(maxima(3, 2));
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert_eq!(quotas.admit(a), Ok(()));
        assert_eq!(quotas.admit(a), Ok(()));
        assert_eq!(quotas.admit(a), Err("max.connections.per.ip"));
        assert_eq!(quotas.admit(b), Ok(()));
        assert_eq!(quotas.admit(b), Err("max.connections"));
        quotas.release(a);
        assert_eq!(quotas.admit(b), Ok(()));
        quotas.release(b);
        quotas.release(b);
        quotas.release(a);
        assert!(quotas.open.lock().by_ip.is_empty());
    }

    #[test]
    fn overrides_and_descriptors_bound_as_well() {
        let mut bounds = maxima(100, 0);
        bounds.per_ip_overrides = parse_overrides("127.0.0.1:2, [::1]:1").expect("valid");
        bounds.by_open_files = 3;
        let quotas = ConnectionQuotas::new(bounds);
        let v4 = IpAddr::from([127, 0, 0, 1]);
        // As a listener on all interfaces sees it.
        let mapped = IpAddr::V6(std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let v6 = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(
            quotas.admit(IpAddr::from([127, 0, 0, 2])),
            Err("max.connections.per.ip")
        );
        assert_eq!(quotas.admit(v4), Ok(()));
        assert_eq!(quotas.admit(mapped), Ok(()));
        assert_eq!(quotas.admit(v4), Err("max.connections.per.ip"));
        assert_eq!(quotas.admit(v6), Ok(()));
        assert_eq!(quotas.admit(v6), Err("open files"));
        assert!(quotas.says_so("open files"));
        assert!(!quotas.says_so("open files"));
        quotas.release(mapped);
        assert!(quotas.says_so("open files"));
    }

    #[test]
    fn an_override_that_says_nothing_is_named() {
        assert!(parse_overrides("").expect("empty").is_empty());
        for wrong in ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:-1", "a,b"] {
            let error = parse_overrides(wrong).expect_err(wrong).to_string();
            assert!(error.contains("is not host:number"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_a_way_out() {
        let options = SocketOptions {
            backlog: 10,
            receive_buffer_bytes: Some(100_000),
            send_buffer_bytes: None,
        };
        let mut listener = Listener {
            name: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 0,
            advertised_host: String::new(),
            advertised_port: 0,
            security_protocol: "PLAINTEXT".to_owned(),
        };
        let (_held, address) = bind(&listener, options).expect("binds");
        listener.port = address.port();
        let error = bind(&listener, options).expect_err("taken").to_string();
        assert!(error.contains("another process listens there"), "{error}");
    }
}
