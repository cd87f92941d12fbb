//! Putting the pieces together: bind, run, stop.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{Config, ConfigError};
use crate::conn::Handle;
use crate::handover::Gateway;
use crate::hooks::Hooks;
use crate::http::{Listener, NoHostPin, Site, Tls, bind};
use crate::metrics::Reload;
use crate::worker;

/// How often the end of a drain is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// A server that is bound and ready to run.
///
/// ```no_run
/// use millstream_server::{Config, Server};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder(()).config(Config::default()).bind().await?;
/// println!("listening on {}", server.url());
/// server.run().await?; // until SIGTERM, SIGINT or `Stopper::stop`
/// # Ok(())
/// # }
/// ```
pub struct Server {
    site: Arc<Site>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    stopper: Stopper,
    signals: Option<Signals>,
}

/// Collects what a [`Server`] needs.
pub struct Builder {
    hooks: Arc<dyn Hooks>,
    config: Config,
    signals: bool,
    raw: bool,
}

/// Stops a running server from anywhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<u8>>);

/// How a server ended. Complete by definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The deadline of the drain passed; the rest was dropped.
    DeadlinePassed,
    /// All connections were closed in order.
    Drained,
    /// A second request to stop cut the drain short.
    Forced,
}

impl Server {
    /// Starts with the application; `()` is the one that supplies nothing.
    pub fn builder(hooks: impl Hooks) -> Builder {
        Builder {
            hooks: Arc::new(hooks),
            config: Config::default(),
            signals: true,
            raw: false,
        }
    }

    /// The address it listens on, with the port the system chose for port 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The same as URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Prints the one line on standard output that says the server is ready.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn announce(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "listening on {}", self.url())?;
        out.flush()
    }

    /// The server for other threads: publish, count, close. Cheap to clone.
    ///
    /// ```no_run
    /// # use millstream_server::{Config, PublishOptions, Server};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::builder(()).bind().await?;
    /// let handle = server.handle();
    /// std::thread::spawn(move || {
    ///     let data = millstream_core::RawJsonRef::NULL;
    ///     handle.publish("clock", "tick", data, PublishOptions::default())
    /// });
    /// server.run().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle {
        // `Builder::bind` starts a pool of workers, and such a pool has a handle.
        self.site
            .gateway
            .handle()
            .expect("the gateway is a pool of workers")
    }

    /// A way to stop it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is told to stop, then drains: not ready for `shutdown_delay`, no new
    /// connections, every connection closed with 1001 within `drain_spread`, at most
    /// `drain_deadline`. A second request to stop ends it at once.
    ///
    /// # Errors
    /// When the workers could not be ended in order.
    pub async fn run(self) -> io::Result<Stopped> {
        let Self {
            site,
            listener,
            tls,
            stopper,
            signals,
            ..
        } = self;
        if let Some(signals) = signals {
            tokio::spawn(signals.listen(stopper.clone(), Arc::clone(&site), tls.clone()));
        }
        let mut told = stopper.0.subscribe();
        let http = Listener::new(Arc::clone(&site), tls);
        tokio::select! {
            never = http.accept(&listener) => match never {},
            () = times(&mut told, 1) => {}
        }
        tracing::info!(connections = site.gateway.connections(), "stopping");
        site.leave();
        let delay = sleep(site.config.shutdown_delay);
        tokio::select! {
            never = http.accept(&listener) => match never {},
            () = delay => {}
            () = times(&mut told, 2) => {}
        }
        drop(listener);
        site.gateway.drain();
        let stopped = tokio::select! {
            biased;
            () = times(&mut told, 2) => Stopped::Forced,
            stopped = drained(&site, &http) => stopped,
        };
        let left = site.gateway.connections();
        tracing::info!(?stopped, left, "stopped");
        let gateway = Arc::clone(&site.gateway);
        tokio::task::spawn_blocking(move || gateway.stop())
            .await
            .map_err(io::Error::other)?;
        Ok(stopped)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Replaces the default configuration.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Whether [`Server::run`] listens to SIGTERM and SIGINT (stop) and SIGHUP (read the
    /// certificate again). On by default.
    #[must_use]
    pub const fn signals(mut self, on: bool) -> Self {
        self.signals = on;
        self
    }

    /// For an application with a protocol of its own: no `welcome`, no control frames, no text
    /// heartbeat. Every message goes to the message hook.
    #[must_use]
    pub const fn raw_protocol(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Checks the configuration, binds the port and starts the workers.
    ///
    /// # Errors
    /// [`StartError`]: a configuration that cannot be used, a port that is taken, a certificate
    /// that cannot be read, or a system out of resources.
    pub async fn bind(self) -> Result<Server, StartError> {
        let raw = self.raw;
        self.bind_with(|config, hooks| worker::start(config, hooks, raw))
            .await
    }

    /// The same with another pool of workers.
    pub(crate) async fn bind_with(
        self,
        start: impl FnOnce(&Config, Arc<dyn Hooks>) -> io::Result<Arc<dyn Gateway>>,
    ) -> Result<Server, StartError> {
        let Self {
            hooks,
            config,
            signals,
            raw: _,
        } = self;
        config.validate().map_err(Cause::Config)?;
        // Before anything is bound or started: a meaningless policy must not serve one request.
        Site::check(&config, &*hooks).map_err(Cause::Policy)?;
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(Arc::new(load_tls(cert, key).await?)),
            _ => None,
        };
        let listener = bind(config.listen, config.listen_backlog)
            .map_err(|error| Cause::Bind(config.listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Cause::Bind(config.listen, error))?;
        let gateway = start(&config, Arc::clone(&hooks)).map_err(Cause::Workers)?;
        if let Some(handle) = gateway.handle() {
            hooks.start(&handle);
        }
        let site = Site::new(config, hooks, gateway).map_err(Cause::Policy)?;
        let stopper = Stopper(Arc::new(watch::Sender::new(0)));
        let signals = signals.then(|| Signals::new(tls.is_some())).transpose();
        let signals = signals.map_err(Cause::Signals)?;
        Ok(Server {
            site: Arc::new(site),
            listener,
            address,
            tls,
            stopper,
            signals,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Stopper {
    /// The first call begins the drain, the second ends it at once.
    pub fn stop(&self) {
        self.0.send_modify(|times| *times = times.saturating_add(1));
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Cause);

impl StartError {
    /// Whether the configuration is to blame, rather than the machine.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(self.0, Cause::Config(_) | Cause::Policy(_) | Cause::Tls(_))
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    #[error("the configuration cannot be used:\n{0}")]
    Config(ConfigError),
    #[error(transparent)]
    Policy(NoHostPin),
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("cannot start the workers: {0}")]
    Workers(io::Error),
}

async fn load_tls(cert: &Path, key: &Path) -> Result<Tls, Cause> {
    let (cert, key) = (cert.to_owned(), key.to_owned());
    let load = tokio::task::spawn_blocking(move || Tls::load(&cert, &key));
    load.await
        .map_err(|error| Cause::Tls(error.to_string()))?
        .map_err(Cause::Tls)
}

/// Waits until the server was told to stop that many times.
async fn times(told: &mut watch::Receiver<u8>, wanted: u8) {
    if told.wait_for(|times| *times >= wanted).await.is_err() {
        std::future::pending::<()>().await; // nobody is left who could tell
    }
}

/// Waits until running requests and all connections are done, or the deadline has passed.
async fn drained(site: &Site, http: &Listener) -> Stopped {
    let deadline = Instant::now() + site.config.drain_deadline;
    let all = async {
        http.finish().await;
        while site.gateway.connections() > 0 {
            sleep(DRAIN_POLL).await;
        }
    };
    match timeout_at(deadline, all).await {
        Ok(()) => Stopped::Drained,
        Err(_) => Stopped::DeadlinePassed,
    }
}

/// The signals a server listens to, from the moment it is bound.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Only with TLS: otherwise a closed terminal ends the process, as usual.
    hangup: Option<Signal>,
}

impl Signals {
    fn new(tls: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: tls.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn listen(mut self, stopper: Stopper, site: Arc<Site>, tls: Option<Arc<Tls>>) {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => stopper.stop(),
                Some(()) = self.interrupt.recv() => stopper.stop(),
                () = next(&mut self.hangup) => reload(&site, tls.clone()).await,
                else => return,
            }
        }
    }
}

/// The next signal of that kind; never, when it is not listened to.
async fn next(stream: &mut Option<Signal>) {
    let got = match stream {
        Some(stream) => stream.recv().await,
        None => None,
    };
    if got.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn reload(site: &Site, tls: Option<Arc<Tls>>) {
    let Some(tls) = tls else { return };
    let outcome = match tokio::task::spawn_blocking(move || tls.reload()).await {
        Ok(outcome) => outcome,
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(()) => {
            tracing::info!("certificate reloaded");
            site.metrics.tls_reloads.count(Reload::Reloaded);
        }
        Err(error) => {
            tracing::error!(error, "certificate not reloaded, the old one stays");
            site.metrics.tls_reloads.count(Reload::Failed);
        }
    }
}
