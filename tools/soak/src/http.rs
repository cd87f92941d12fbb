//! Plain HTTP/1.1 over one kept connection: publishing, and reading the metrics.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A kept connection, opened again when the server has ended it.
pub(crate) struct Http {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    /// Publishes an event and gives the number that its topic gave it.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        event: &str,
        data: &str,
    ) -> Result<u64, Box<dyn Error>> {
        let body = format!(r#"{{"topic":"{topic}","event":"{event}","data":{data}}}"#);
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let (status, answer) = self.ask(&request)?;
        let number = answer.split("\"seq\":").nth(1).and_then(|rest| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()
                .and_then(|n| n.parse().ok())
        });
        match number {
            Some(number) if (200..300).contains(&status) => Ok(number),
            _ => Err(format!("publish answered {status} {answer}").into()),
        }
    }

    fn get(&mut self, path: &str) -> Result<String, Box<dyn Error>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let (status, body) = self.ask(&request)?;
        if status == 200 {
            Ok(body)
        } else {
            Err(format!("{path} answered {status}").into())
        }
    }

    /// A server may end an idle connection at any time. Asking again is safe as long as nothing
    /// of an answer has arrived and the connection had been used before.
    fn ask(&mut self, request: &str) -> Result<(u16, String), Box<dyn Error>> {
        if let Some(stream) = &mut self.stream {
            match exchange(stream, request) {
                Ok(answer) => return Ok(answer),
                Err(_) => self.stream = None,
            }
        }
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        exchange(self.stream.insert(BufReader::new(stream)), request)
    }
}

fn exchange(
    stream: &mut BufReader<TcpStream>,
    request: &str,
) -> Result<(u16, String), Box<dyn Error>> {
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .ok_or("the server closed the connection")?
        .parse()?;
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        chunked |= header.starts_with("transfer-encoding:") && header.ends_with("chunked");
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(stream, &mut body)?;
    } else {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    }
    Ok((status, String::from_utf8(body)?))
}

fn read_chunks(
    stream: &mut BufReader<TcpStream>,
    body: &mut Vec<u8>,
) -> Result<(), Box<dyn Error>> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16)?;
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..])?;
        stream.read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// The sum of all counters of dropped frames.
///
/// # Errors
/// When there is no such counter: then nothing could be proven.
pub(crate) fn drops(address: SocketAddr) -> Result<u64, Box<dyn Error>> {
    let text = Http::new(address).get("/metrics")?;
    sum_of_drops(&text).ok_or_else(|| "/metrics has no counter of dropped frames".into())
}

fn sum_of_drops(text: &str) -> Option<u64> {
    let values: Vec<u64> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(name, _)| name.contains("dropped"))
        .filter_map(|(_, value)| value.parse().ok())
        .collect();
    if values.is_empty() {
        None
    } else {
        Some(values.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_counter_of_dropped_frames_counts() {
        let text = "# TYPE hub_dropped_newest counter\nhub_dropped_newest_total 3\n\
                    hub_frames_dropped_total{policy=\"oldest\"} 4\nother_total 9\n";
        assert_eq!(super::sum_of_drops(text), Some(7));
        assert_eq!(super::sum_of_drops("other_total 9\n"), None);
    }
}
