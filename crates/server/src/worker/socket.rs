//! One socket of a worker: plain or TLS, read and written without waiting.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ServerConnection;
#[cfg(target_os = "linux")]
use socket2::SockRef;

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

    /// Has the kernel end the connection when the peer's kernel acknowledges nothing of what was
    /// written for so long. Where the system has no such thing, its own patience applies.
    pub(crate) fn give_up_after(&mut self, limit: Option<Duration>) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&*self.source()).set_tcp_user_timeout(limit) {
            tracing::debug!(%error, "the time of a silent peer could not be limited");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = limit;
    }

    /// Reads what is there; `Ok(0)` is the end.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| receive(stream, buf)),
            Self::Tls(tls) => tls.read(buf),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| send(stream, bytes)),
            Self::Tls(tls) => tls.write([bytes]),
        }
    }

    pub(crate) fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| stream.write_vectored(parts)),
            Self::Tls(tls) => tls.write(parts.iter().map(|part| &**part)),
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

/// Straight to the system: the C library would make this a point where a thread can be cancelled,
/// at two atomic operations for every frame that goes out.
#[cfg(target_os = "linux")]
#[inline]
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = rustix::net::SendFlags::NOSIGNAL;
    Ok(rustix::net::send(stream, bytes, flags)?)
}

#[cfg(target_os = "linux")]
#[inline]
fn receive(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(stream, buf)?)
}

#[cfg(not(target_os = "linux"))]
fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

#[cfg(not(target_os = "linux"))]
fn receive(mut stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    stream.read(buf)
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

    /// Takes bytes until the socket is full: only then will it say when it can take more.
    fn write<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut taken = 0;
        'parts: for part in parts {
            let mut rest = part;
            while !rest.is_empty() {
                let count = self.session.writer().write(rest)?;
                taken += count;
                rest = rest.get(count..).unwrap_or_default();
                if !rest.is_empty() && !self.flush()? {
                    break 'parts;
                }
            }
        }
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
