//! Accepting connections and running HTTP on them, with bounds on both.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::{Site, Tls, Via};
use crate::metrics::Ended;

/// How long a request may go on after its connection was told to finish, beside its hook.
const FINISH_GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept (mostly: out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// With more connections than this in the HTTP phase, so many are accepted per [`STORM_PAUSE`]:
/// some 25,000 a second.
const STORM: usize = 64;
const STORM_PAUSE: Duration = Duration::from_millis(1);

/// Opens the listening socket.
///
/// # Errors
/// What the system says.
pub(crate) fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// The accept loop and what it shares with its connections.
pub(crate) struct Listener {
    site: Arc<Site>,
    tls: Option<Arc<Tls>>,
    /// One permit per connection in the HTTP phase, taken before the connection is accepted.
    permits: Arc<Semaphore>,
    /// Turns true when connections shall finish what they do.
    finish: watch::Sender<bool>,
}

impl Listener {
    pub(crate) fn new(site: Arc<Site>, tls: Option<Arc<Tls>>) -> Self {
        let permits = Arc::new(Semaphore::new(site.config.http_connections_max as usize));
        Self {
            site,
            tls,
            permits,
            finish: watch::Sender::new(false),
        }
    }

    /// Accepts until dropped.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Infallible {
        let mut accepted = 0;
        loop {
            // Permit first: when all are taken, clients wait in the kernel's bounded backlog.
            let permit = match Arc::clone(&self.permits).acquire_owned().await {
                Ok(permit) => permit,
                Err(_) => std::future::pending().await,
            };
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.site.metrics.accept_errors.inc();
                    tracing::debug!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let via = Via {
                peer,
                permit: Arc::new(permit),
            };
            let (site, tls) = (Arc::clone(&self.site), self.tls.clone());
            tokio::spawn(serve(site, tls, socket, via, self.finish.subscribe()));
            // A storm is let in no faster than it is dealt with: what a thousand half-finished
            // handshakes hold for a moment stays with the process for long.
            accepted += 1;
            let permits = self.site.config.http_connections_max as usize;
            let busy = permits.saturating_sub(self.permits.available_permits());
            if busy > STORM && accepted >= STORM {
                accepted = 0;
                sleep(STORM_PAUSE).await;
            }
        }
    }

    /// Lets running requests finish and waits for them, at most as long as they may take.
    pub(crate) async fn finish(&self) {
        self.finish.send_replace(true);
        let all = self.site.config.http_connections_max;
        let limit = self.site.config.upgrade_timeout + 2 * FINISH_GRACE;
        if timeout(limit, self.permits.acquire_many(all))
            .await
            .is_err()
        {
            tracing::warn!("some HTTP requests did not finish");
        }
    }
}

async fn serve(
    site: Arc<Site>,
    tls: Option<Arc<Tls>>,
    socket: TcpStream,
    via: Via,
    finish: watch::Receiver<bool>,
) {
    site.metrics.connections.inc();
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    match tls {
        None => converse(&site, TokioIo::new(socket), via, finish).await,
        Some(tls) => {
            let handshake = tls.acceptor().accept(socket);
            match timeout(site.config.header_read_timeout, handshake).await {
                Ok(Ok(stream)) => converse(&site, TokioIo::new(stream), via, finish).await,
                Ok(Err(_)) | Err(_) => site.metrics.ended.count(Ended::TlsFailed),
            }
        }
    }
    site.metrics.connections.dec();
}

/// Runs HTTP/1.1 on one connection until it ends, is upgraded, or is too old.
async fn converse<I>(site: &Arc<Site>, io: I, via: Via, mut finish: watch::Receiver<bool>)
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let via = &via;
        async move { Ok::<_, Infallible>(site.answer(via, request).await) }
    });
    let config = &site.config;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(config.header_bytes_max)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let too_old = tokio::select! {
        result = connection.as_mut() => {
            if result.is_err() {
                site.metrics.ended.count(Ended::Error);
            }
            return;
        }
        () = sleep(config.http_connection_age_max) => true,
        _ = finish.wait_for(|finish| *finish) => false,
    };
    connection.as_mut().graceful_shutdown();
    let grace = config.upgrade_timeout + FINISH_GRACE;
    if timeout(grace, connection).await.is_err() || too_old {
        site.metrics.ended.count(Ended::Age);
    }
}
