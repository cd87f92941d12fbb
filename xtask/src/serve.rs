//! A server under test: started on a free port, waited for, stopped whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::report::{Done, Outcome};
use crate::workspace::command;

/// How long a server may take to say that it listens.
const READY_AFTER_MAX: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM; its own drain deadline is shorter.
const STOP_AFTER_MAX: Duration = Duration::from_secs(40);

/// A running server; dropped without [`stop`](Self::stop) it is killed.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `program --listen 127.0.0.1:<free port> <arguments>` and waits until it listens.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let address = free_address()?;
        let listen = address.to_string();
        let mut server = command(program);
        server.args(["--listen", &listen]).args(arguments);
        println!(
            "$ {} --listen {listen} {}",
            program.display(),
            arguments.join(" ")
        );
        let mut child = server
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let output = child.stdout.take();
        let server = Self { child, address };
        match output {
            Some(output) => wait_until_listening(output)?,
            None => return Err("the server has no standard output".into()),
        }
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the server to end and waits until it has.
    pub(crate) fn stop(mut self) -> Outcome {
        let sent = Command::new("kill")
            .args(["-TERM", &self.id().to_string()])
            .status();
        if !sent.is_ok_and(|status| status.success()) {
            return Err("could not send SIGTERM to the server".into());
        }
        let started = Instant::now();
        while started.elapsed() < STOP_AFTER_MAX {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(Done::Passed),
                Ok(Some(status)) => return Err(format!("the server ended with {status}")),
                Ok(None) => thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!(
            "the server did not end within {STOP_AFTER_MAX:?} of SIGTERM"
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}

/// Reads the output until the ready line, and goes on reading so that the pipe never fills.
fn wait_until_listening(output: impl Read + Send + 'static) -> Result<(), String> {
    let (ready, listening) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.contains("listening on") {
                // Nobody waits any more once the limit has passed.
                let _ = ready.send(());
            }
        }
    });
    listening
        .recv_timeout(READY_AFTER_MAX)
        .map_err(|_| "the server did not say \"listening on\"".to_owned())
}
