//! One socket of a worker: plain or TLS, read and written without waiting.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::handover::Socket;

/// A socket that never blocks.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// TLS without I/O of its own: rustls turns bytes into bytes, the worker moves them.
#[derive(Debug)]
pub(crate) struct Tls {
    stream: TcpStream,
    session: ServerConnection,
}

/// Ciphertext one connection may have waiting for the socket; more has to wait as a backlog,
/// where the rules for slow readers apply.
const TLS_PENDING_MAX: usize = 64 * 1024;

impl Io {
    pub(crate) fn new(socket: Socket) -> Self {
        match socket {
            Socket::Plain(stream) => Self::Plain(TcpStream::from_std(stream)),
            Socket::Tls(stream, mut session) => {
                session.set_buffer_limit(Some(TLS_PENDING_MAX));
                Self::Tls(Box::new(Tls {
                    stream: TcpStream::from_std(stream),
                    session: *session,
                }))
            }
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    pub(crate) fn source(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &mut tls.stream,
        }
    }

    /// Reads what is there; `Ok(0)` is the end.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| stream.read(buf)),
            Self::Tls(tls) => tls.read(buf),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| stream.write(bytes)),
            Self::Tls(tls) => tls.write(|session| session.writer().write(bytes)),
        }
    }

    pub(crate) fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| stream.write_vectored(parts)),
            Self::Tls(tls) => tls.write(|session| session.writer().write_vectored(parts)),
        }
    }

    /// Moves what TLS has ready; true when nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            // The peer may be gone already; there is nobody left to tell.
            let _ = tls.flush();
        }
        let _ = self.source().shutdown(Shutdown::Write);
    }
}

impl Tls {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A peer that leaves without close_notify: the end all the same, because
                // WebSocket has its own close.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            if retry(|| self.session.read_tls(&mut self.stream))? == 0 {
                return Ok(0);
            }
            self.session
                .process_new_packets()
                .map_err(io::Error::other)?;
            if self.session.wants_write() {
                self.flush()?;
            }
        }
    }

    fn write(
        &mut self,
        put: impl FnOnce(&mut ServerConnection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let taken = put(&mut self.session)?;
        self.flush()?;
        if taken == 0 {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(taken)
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match retry(|| self.session.write_tls(&mut self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn retry<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
