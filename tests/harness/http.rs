//! A GET over plain HTTP/1.1, enough for the broker's pages.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Status and body; an error in words when nobody answers.
pub fn http_get(port: u16, path: &str) -> Result<(u16, String), String> {
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = get().map_err(|error| error.to_string())?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("no end of the header")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or("no status")?;
    Ok((status, body.to_owned()))
}

/// The sum of a metric's samples whose line holds all of `labels` (such as `path="sendfile"`).
pub fn metric(port: u16, name: &str, labels: &[&str]) -> f64 {
    let (_, page) = http_get(port, "/metrics").expect("/metrics answers");
    page.lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
