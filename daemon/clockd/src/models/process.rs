//! A model that is another process: one line of JSON each way over a Unix stream socket. See `docs/models.md`.

use crate::models::history::History;
use crate::models::{Prediction, RateModel, USUAL_VALIDITY};
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Of the protocol.
const VERSION: u32 = 1;
/// For the whole exchange.
const PATIENCE: Span = Span::from_secs(2);
/// Bytes of an answer with its end of line.
const MAX_ANSWER: usize = 4096;

#[derive(Serialize)]
struct Request {
    version: u32,
    /// On the local clock, as `t_s`.
    now_s: f64,
    /// Oldest first.
    history: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    t_s: f64,
    rate_ppb: f64,
    sigma_ppb: f64,
    temperature_c: Option<f64>,
    load: Option<f64>,
}

/// Names that are not here are ignored, so that a model may tell more.
#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    none: bool,
    rate_ppb: Option<f64>,
    sigma_ppb: Option<f64>,
    valid_for_s: Option<f64>,
}

fn seconds(at: MonoTime) -> f64 {
    at.as_ns() as f64 / 1e9
}

fn request(history: &History) -> Result<Vec<u8>, String> {
    let rows = history.observations.iter().map(|o| Row {
        t_s: seconds(o.at),
        rate_ppb: o.rate * 1e9,
        sigma_ppb: o.sigma * 1e9,
        temperature_c: o.temperature_c,
        load: o.load,
    });
    let request = Request { version: VERSION, now_s: seconds(history.now), history: rows.collect() };
    let mut line = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    line.push(b'\n');
    Ok(line)
}

fn response(line: &[u8]) -> Result<Option<Prediction>, String> {
    let r: Response = serde_json::from_slice(line)
        .map_err(|e| format!("its answer {:?} makes no sense: {e}", excerpt(line)))?;
    if r.none {
        return Ok(None);
    }
    let (Some(rate_ppb), Some(sigma_ppb)) = (r.rate_ppb, r.sigma_ppb) else {
        return Err(format!(
            "its answer {:?} has neither \"none\": true nor \"rate_ppb\" and \"sigma_ppb\"",
            excerpt(line)
        ));
    };
    let valid_for = r.valid_for_s.map_or(USUAL_VALIDITY, Span::from_secs_f64);
    Ok(Some(Prediction { rate: rate_ppb / 1e9, sigma: sigma_ppb / 1e9, valid_for }))
}

/// The beginning of what somebody else sent, fit for a log.
fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ProcessModel {
    socket: PathBuf,
    patience: Span,
    stream: Option<UnixStream>,
}

impl ProcessModel {
    /// One that listens at `socket`; it is connected to when it is asked.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, patience: PATIENCE, stream: None }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        // Without waiting: a process that accepts nobody would otherwise hold us up for ever.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&fd, &SocketAddrUnix::new(&self.socket)?)?;
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// One line each way. An error ends the connection, so that a late answer is never taken for the next one.
    fn exchange(&mut self, line: &[u8]) -> Result<Vec<u8>, String> {
        let deadline = boottime() + self.patience;
        if let Some(mut old) = self.stream.take() {
            match talk(&mut old, line, deadline) {
                Ok(answer) => {
                    self.stream = Some(old);
                    return Ok(answer);
                }
                // It was restarted meanwhile: worth another try at once.
                Err(Fault::Closed) => {}
                Err(Fault::Said(e)) => return Err(e),
            }
        }
        let mut new = self
            .connect()
            .map_err(|e| format!("cannot connect to {}: {e}; is it running?", self.socket.display()))?;
        match talk(&mut new, line, deadline) {
            Ok(answer) => {
                self.stream = Some(new);
                Ok(answer)
            }
            Err(Fault::Closed) => Err("it closed the connection without an answer".to_owned()),
            Err(Fault::Said(e)) => Err(e),
        }
    }
}

impl RateModel for ProcessModel {
    fn predict(&mut self, history: &History) -> Result<Option<Prediction>, String> {
        let answer = self.exchange(&request(history)?)?;
        let prediction = response(&answer);
        if prediction.is_err() {
            self.stream = None;
        }
        prediction
    }
}

enum Fault {
    Closed,
    Said(String),
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::Closed,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Said("it did not answer in time".to_owned()),
            _ => Self::Said(format!("its connection failed: {e}")),
        }
    }
}

fn left(deadline: MonoTime) -> io::Result<Option<Duration>> {
    let left = deadline - boottime();
    if left <= Span::ZERO { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left.to_duration())) }
}

/// Sends `line` and reads one, without its end.
fn talk(stream: &mut UnixStream, line: &[u8], deadline: MonoTime) -> Result<Vec<u8>, Fault> {
    let mut rest = line;
    while !rest.is_empty() {
        stream.set_write_timeout(left(deadline)?)?;
        match stream.write(rest) {
            Ok(0) => return Err(Fault::Closed),
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut answer = vec![0; MAX_ANSWER];
    let mut length = 0;
    loop {
        stream.set_read_timeout(left(deadline)?)?;
        match stream.read(&mut answer[length..]) {
            Ok(0) if length == 0 => return Err(Fault::Closed),
            Ok(0) => return Err(Fault::Said("it closed the connection within an answer".to_owned())),
            Ok(n) => length += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        }
        if let Some(end) = answer[..length].iter().position(|&b| b == b'\n') {
            if end + 1 < length {
                return Err(Fault::Said("it sent more than one line".to_owned()));
            }
            answer.truncate(end);
            return Ok(answer);
        }
        if length == MAX_ANSWER {
            return Err(Fault::Said(format!("its answer is longer than {MAX_ANSWER} bytes")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::history::CAPACITY;
    use crate::models::history::tests::observation;
    use serde_json::Value;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread::{JoinHandle, spawn};

    fn history(count: usize) -> History {
        let observations = (0..count).map(|i| observation(i as f64 * 10.0, 12_345e-9)).collect();
        History { now: MonoTime::from_ns(9_500_000_000), observations, epoch: 0 }
    }

    /// A process that gives these answers, one a connection or more, and what it was asked.
    struct Peer {
        _directory: tempfile::TempDir,
        model: ProcessModel,
        thread: JoinHandle<Vec<String>>,
    }

    /// For each connection, an answer to each request; then it is closed.
    fn peer(connections: Vec<Vec<Vec<u8>>>) -> Peer {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = spawn(move || {
            let mut asked = Vec::new();
            for answers in connections {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for answer in answers {
                    let mut line = String::new();
                    stream.read_line(&mut line).unwrap();
                    asked.push(line);
                    // It may have heard enough.
                    let _ = stream.get_mut().write_all(&answer);
                }
            }
            asked
        });
        Peer { _directory: directory, model: ProcessModel::new(path), thread }
    }

    const ANSWER: &[u8] = b"{\"rate_ppb\": -12.5, \"sigma_ppb\": 3, \"why\": \"because\"}\n";

    #[test]
    fn a_request_and_its_answer() {
        let mut p = peer(vec![vec![
            ANSWER.to_vec(),
            b"{\"none\": true}\n".to_vec(),
            b"{\"rate_ppb\":1,\"sigma_ppb\":2,\"valid_for_s\":7.5}\n".to_vec(),
        ]]);
        let mut h = history(2);
        h.observations[0].load = Some(0.5);
        let got = p.model.predict(&h).unwrap().unwrap();
        assert_eq!(got, Prediction { rate: -12.5e-9, sigma: 3e-9, valid_for: USUAL_VALIDITY });
        assert_eq!(p.model.predict(&h), Ok(None));
        let got = p.model.predict(&history(CAPACITY)).unwrap().unwrap();
        assert_eq!(got.valid_for, Span::from_ms(7_500));
        let asked = p.thread.join().unwrap();
        let first: Value = serde_json::from_str(&asked[0]).unwrap();
        assert_eq!((&first["version"], &first["now_s"]), (&1.into(), &9.5.into()));
        let row = &first["history"][0];
        assert_eq!(
            (&row["t_s"], &row["temperature_c"], &row["load"]),
            (&0.0.into(), &40.0.into(), &0.5.into())
        );
        assert!((row["rate_ppb"].as_f64().unwrap() - 12_345.0).abs() < 1e-6);
        assert!((row["sigma_ppb"].as_f64().unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(first["history"][1]["load"], Value::Null);
        let last: Value = serde_json::from_str(&asked[2]).unwrap();
        assert_eq!(last["history"].as_array().unwrap().len(), CAPACITY);
    }

    #[test]
    fn garbage_is_an_error_and_ends_the_connection() {
        let check = |answer: &[u8], wanted: &str| {
            let mut p = peer(vec![vec![answer.to_vec()], vec![ANSWER.to_vec()]]);
            let e = p.model.predict(&history(1)).expect_err(wanted);
            assert!(e.contains(wanted), "{e}");
            // The next one begins anew.
            assert!(p.model.predict(&history(1)).unwrap().is_some(), "{wanted}");
            p.thread.join().unwrap();
        };
        check(b"hello\n", "\"hello\" makes no sense");
        check(b"\n", "makes no sense");
        check(b"\xff\xfe\0\n", "makes no sense");
        check(b"{\"rate_ppb\": NaN, \"sigma_ppb\": 1}\n", "makes no sense");
        check(b"{\"rate_ppb\": 1e999, \"sigma_ppb\": 1}\n", "makes no sense");
        check(b"{\"rate_ppb\": \"1\", \"sigma_ppb\": 1}\n", "makes no sense");
        check(&[b"[".repeat(3000), b"\n".to_vec()].concat(), "makes no sense");
        check(b"{}\n", "neither");
        check(b"{\"rate_ppb\": 1}\n", "neither");
        check(b"{\"none\": true}\n{\"none\": true}\n", "more than one line");
        check(b"{\"none\": tr", "within an answer");
        check(b"", "without an answer");
        check(&b"x".repeat(100_000), "longer than 4096 bytes");
    }

    #[test]
    fn a_process_that_was_restarted_is_found_again_at_once() {
        let mut p = peer(vec![vec![ANSWER.to_vec()], vec![ANSWER.to_vec()]]);
        for _ in 0..2 {
            assert!(p.model.predict(&history(1)).unwrap().is_some());
        }
        p.thread.join().unwrap();
        // Now it is gone.
        assert!(p.model.predict(&history(1)).unwrap_err().contains("is it running?"));
    }

    #[test]
    fn silence_slow_talk_and_deaf_ears_end_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.sock");
        let mut model = ProcessModel::new(path.clone());
        assert!(model.predict(&history(1)).unwrap_err().contains("is it running?"));
        let listener = UnixListener::bind(&path).unwrap();
        model.patience = Span::from_ms(50);
        // Nobody accepts: the request waits in the socket, or, when it is larger, does not even fit.
        assert!(model.predict(&history(1)).unwrap_err().contains("in time"));
        let large = vec![b'x'; 1 << 22];
        assert!(model.exchange(&large).unwrap_err().contains("in time"));
        drop(listener);
        // Half an answer, and then nothing until we hang up.
        let mut p = peer(vec![vec![b"{\"none\": tr".to_vec(), Vec::new()]]);
        p.model.patience = Span::from_ms(50);
        assert!(p.model.predict(&history(1)).unwrap_err().contains("in time"));
        p.thread.join().unwrap();
    }

    #[test]
    fn a_full_queue_of_connections_is_an_error_and_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let model = ProcessModel::new(path);
        let mut held = Vec::new();
        let refused = loop {
            match model.connect() {
                Ok(stream) => held.push(stream),
                Err(e) => break e,
            }
            assert!(held.len() < 100_000);
        };
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    }
}
