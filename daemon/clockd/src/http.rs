//! A small HTTP/1.1 server in one thread that no client can hold up.
//!
//! All connections are waited for together. Each has a few seconds and a few kilobytes for its request, gets one answer,
//! and is closed; when there are too many, the oldest makes room. An answer may have to wait for a moment; then the same
//! request is handled again at that moment.

use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

/// For the whole exchange.
const PATIENCE: Span = Span::from_secs(5);
/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// Of a request's head.
const MAX_REQUEST: usize = 8192;
/// Of a request's body.
const MAX_BODY: usize = 4096;
/// Header lines in a request.
const MAX_HEADERS: usize = 64;

/// The one path that takes a POST, and nothing else.
pub(crate) const POSTED_TO: &str = "/v1/wait";

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// 200, 404, ...
    pub(crate) code: u16,
    /// Content-Type.
    pub(crate) kind: &'static str,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// Plain text.
    pub(crate) fn text(code: u16, body: impl Into<String>) -> Self {
        Self { code, kind: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request<'a> {
    /// GET (which HEAD is handled as) or POST.
    pub(crate) is_post: bool,
    /// Without the query.
    pub(crate) path: &'a str,
    /// What follows the question mark, or nothing.
    pub(crate) query: &'a str,
    /// Of a POST.
    pub(crate) body: &'a [u8],
    /// It was handled before, and told to wait.
    pub(crate) waited: bool,
}

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// This is the answer.
    Now(Answer),
    /// Ask again at this moment. The connection is kept until then.
    Later(MonoTime),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Now(answer)
    }
}

struct Connection {
    stream: TcpStream,
    until: MonoTime,
    /// The request is whole, and its answer waits for this moment.
    later: Option<MonoTime>,
    request: Vec<u8>,
    /// What is left to send; empty while the request is read.
    answer: Vec<u8>,
    sent: usize,
}

/// Serves until the process ends; `handle` answers a request. Returns only when the operating system refuses to wait.
pub(crate) fn serve(listener: &TcpListener, handle: impl Fn(&Request<'_>) -> Reply) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut connections: VecDeque<Connection> = VecDeque::new();
    loop {
        let is_ready = wait(listener, &connections)?;
        let now = boottime();
        // The newest first, so that the numbers of the others stay.
        for i in (0..connections.len()).rev() {
            let connection = &mut connections[i];
            let is_due = connection.later.is_some_and(|at| boottime() >= at);
            let goes_on = !(is_ready[i + 1] || is_due) || connection.proceed(&handle);
            if !goes_on || now >= connection.until {
                connections.remove(i);
            }
        }
        if is_ready[0] {
            accept(listener, &mut connections, now);
        }
    }
}

/// Which of the listener and the connections is ready.
fn wait(listener: &TcpListener, connections: &VecDeque<Connection>) -> io::Result<Vec<bool>> {
    let mut polled = vec![PollFd::new(listener, PollFlags::IN)];
    polled.extend(connections.iter().map(|c| {
        let wanted = if c.answer.is_empty() { PollFlags::IN } else { PollFlags::OUT };
        PollFd::new(&c.stream, wanted)
    }));
    let next = connections.iter().map(|c| c.later.unwrap_or(c.until)).min();
    let left = next.map(|at| (at - boottime()).max(Span::from_us(1)));
    let left = left
        .map(|left| Timespec { tv_sec: left.as_ns() / 1_000_000_000, tv_nsec: left.as_ns() % 1_000_000_000 });
    match poll(&mut polled, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(polled.iter().map(|p| !p.revents().is_empty()).collect())
}

fn accept(listener: &TcpListener, connections: &mut VecDeque<Connection>, now: MonoTime) {
    // As many as may be kept: the others wait for the next turn.
    for _ in 0..MAX_CONNECTIONS {
        match listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_err() {
                    continue;
                }
                if connections.len() == MAX_CONNECTIONS {
                    // Whoever was told to wait keeps waiting, unless all are.
                    let oldest = connections.iter().position(|c| c.later.is_none()).unwrap_or(0);
                    connections.remove(oldest);
                }
                connections.push_back(Connection {
                    stream,
                    until: now + PATIENCE,
                    later: None,
                    request: Vec::new(),
                    answer: Vec::new(),
                    sent: 0,
                });
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            // Out of descriptors: the oldest connection gives one back; without any there is nothing but to wait.
            Err(e) if e.kind() != ErrorKind::Interrupted && e.kind() != ErrorKind::ConnectionAborted => {
                if connections.pop_front().is_none() {
                    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
                }
                return;
            }
            Err(_) => {}
        }
    }
}

impl Connection {
    /// Reads or writes what can be; false when it is done with.
    fn proceed(&mut self, handle: &impl Fn(&Request<'_>) -> Reply) -> bool {
        if self.answer.is_empty() {
            let mut bytes = [0; 2048];
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                // Whoever waits has said what there is to say.
                Ok(_) if self.later.is_some() => {}
                Ok(length) => self.request.extend_from_slice(&bytes[..length]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if self.later.is_none_or(|at| boottime() < at) {
                        return true;
                    }
                }
                Err(_) => return false,
            }
            match answer(&self.request, self.later.is_some(), handle) {
                Progress::Partial => return true,
                Progress::Later(at) => {
                    self.later = Some(at);
                    self.until = at + PATIENCE;
                    return true;
                }
                Progress::Done(bytes) => self.answer = bytes,
            }
            self.later = None;
            self.until = boottime() + PATIENCE;
        }
        match self.stream.write(&self.answer[self.sent..]) {
            Ok(length) => self.sent += length,
            Err(e) => return matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        if self.sent < self.answer.len() {
            return true;
        }
        // Says that this was all, before what the client still sends makes a reset of it.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        false
    }
}

/// What a request has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Progress {
    Partial,
    Later(MonoTime),
    /// The bytes of the answer.
    Done(Vec<u8>),
}

fn answer(request: &[u8], waited: bool, handle: &impl Fn(&Request<'_>) -> Reply) -> Progress {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Partial) if request.len() <= MAX_REQUEST => Progress::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Progress::Done(bytes_of(&Answer::text(431, "the request is too large\n"), "", true))
        }
        Err(e) => {
            Progress::Done(bytes_of(&Answer::text(400, format!("this is no HTTP request: {e}\n")), "", true))
        }
        Ok(httparse::Status::Complete(head)) => answer_parsed(&parsed, &request[head..], waited, handle),
    }
}

fn answer_parsed(
    parsed: &httparse::Request<'_, '_>,
    rest: &[u8],
    waited: bool,
    handle: &impl Fn(&Request<'_>) -> Reply,
) -> Progress {
    let target = parsed.path.unwrap_or_default().split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let refuse = |code: u16, why: &str| Progress::Done(bytes_of(&Answer::text(code, why), path, true));
    let is_post = match parsed.method {
        Some("GET" | "HEAD") => false,
        Some("POST") => true,
        _ => return refuse(405, "only GET, HEAD and POST are answered\n"),
    };
    let header =
        |name: &str| parsed.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let mut body: &[u8] = &[];
    if is_post {
        if header("transfer-encoding").is_some() {
            return refuse(411, "send the body with a Content-Length\n");
        }
        let length = header("content-length").map(|v| std::str::from_utf8(v).ok()?.trim().parse().ok());
        match length {
            None => {}
            Some(None) => return refuse(400, "the Content-Length is no number\n"),
            Some(Some(length)) if length > MAX_BODY => return refuse(413, "the body is too large\n"),
            Some(Some(length)) => match rest.get(..length) {
                Some(whole) => body = whole,
                None => return Progress::Partial,
            },
        }
    }
    match handle(&Request { is_post, path, query, body, waited }) {
        Reply::Later(at) => Progress::Later(at),
        Reply::Now(answer) => Progress::Done(bytes_of(&answer, path, parsed.method != Some("HEAD"))),
    }
}

fn bytes_of(answer: &Answer, path: &str, has_body: bool) -> Vec<u8> {
    let reason = match answer.code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let allow = match (answer.code, path == POSTED_TO) {
        (405, true) => "Allow: POST\r\n",
        (405, false) => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}\
         Connection: close\r\n\r\n",
        answer.code,
        answer.kind,
        answer.body.len()
    )
    .into_bytes();
    if has_body {
        bytes.extend_from_slice(answer.body.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn page(request: &Request<'_>) -> Reply {
        let answer = match (request.path, request.is_post) {
            ("/a", false) => Answer::text(200, "hello\n"),
            ("/a", true) => {
                Answer::text(200, format!("{} {}\n", request.query, String::from_utf8_lossy(request.body)))
            }
            ("/big", _) => Answer::text(200, "x".repeat(8 << 20)),
            ("/wait", _) => {
                // Until a moment that the body names.
                let at = std::str::from_utf8(request.body).ok().and_then(|text| text.parse().ok());
                let at = MonoTime::from_ns(at.unwrap_or(0));
                if boottime() < at {
                    return Reply::Later(at);
                }
                Answer::text(200, "now\n")
            }
            _ => Answer::text(404, "no\n"),
        };
        answer.into()
    }

    fn done(request: &[u8]) -> String {
        match answer(request, false, &page) {
            Progress::Done(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The server's thread ends with the tests.
    fn start() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener, page));
        address
    }

    fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn requests_are_answered_and_nonsense_is_refused() {
        let check = |request: &[u8], head: &str, body: &str| {
            let text = done(request);
            assert!(text.starts_with(head), "{text}");
            assert_eq!(text.split_once("\r\n\r\n").unwrap().1, body, "{text}");
        };
        check(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "hello\n");
        check(b"GET /a?x=1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "hello\n");
        check(b"HEAD /a HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "");
        check(b"GET /b HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ", "no\n");
        check(b"PUT /a HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ", "only GET, HEAD and POST are answered\n");
        assert!(done(b"PUT /a HTTP/1.1\r\n\r\n").contains("\r\nAllow: GET, HEAD\r\n"));
        assert!(done(b"PUT /v1/wait HTTP/1.1\r\n\r\n").contains("\r\nAllow: POST\r\n"));
        check(b"POST /a?q HTTP/1.1\r\nContent-Length: 2\r\n\r\nhixx", "HTTP/1.1 200 ", "q hi\n");
        check(
            b"POST /a HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 400 ",
            "the Content-Length is no number\n",
        );
        check(
            b"POST /a HTTP/1.1\r\nContent-Length: 5000\r\n\r\n",
            "HTTP/1.1 413 ",
            "the body is too large\n",
        );
        check(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 411 ",
            "send the body with a Content-Length\n",
        );
        check(&[b'A'; MAX_REQUEST + 1], "HTTP/1.1 431 ", "the request is too large\n");
        let many = format!("GET /a HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        check(many.as_bytes(), "HTTP/1.1 431 ", "the request is too large\n");
        for nonsense in
            [&b"\x16\x03\x01\x02\x00"[..], b"GET /a\r\n\r\n", b"GET /a HTTP/9\r\n\r\n", b"\x00\x00"]
        {
            assert!(done(nonsense).starts_with("HTTP/1.1 400 "));
        }
        let whole = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], false, &page), Progress::Partial, "{end}");
        }
        let whole = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], false, &page), Progress::Partial, "{end}");
        }
    }

    #[test]
    fn an_answer_that_waits_comes_at_its_moment_and_holds_up_nobody() {
        let address = start();
        let at = boottime() + Span::from_ms(300);
        let body = at.as_ns().to_string();
        let waiting = std::thread::spawn(move || {
            let request = format!("POST /wait HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let text = exchange(address, request.as_bytes());
            (text, boottime())
        });
        assert!(exchange(address, b"GET /a HTTP/1.1\r\n\r\n").ends_with("hello\n"));
        let (text, answered) = waiting.join().unwrap();
        assert!(text.ends_with("\r\n\r\nnow\n"), "{text}");
        assert!(answered >= at);
    }

    #[test]
    fn idle_and_half_finished_clients_hold_up_nobody() {
        let address = start();
        // More than are kept: connected and silent, or with half a request, or not reading a large answer.
        let held: Vec<TcpStream> = (0..3 * MAX_CONNECTIONS)
            .map(|i| {
                let mut stream = TcpStream::connect(address).unwrap();
                let text: &[u8] = match i % 3 {
                    0 => b"",
                    1 => b"GET /a HT",
                    _ => b"GET /big HTTP/1.1\r\n\r\n",
                };
                // The oldest have been closed by the server.
                let _ = stream.write_all(text);
                stream
            })
            .collect();
        for _ in 0..20 {
            assert!(exchange(address, b"GET /a HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nhello\n"));
        }
        drop(held);
        assert!(exchange(address, b"GET /big HTTP/1.1\r\n\r\n").len() > 8 << 20);
    }

    #[test]
    fn a_silent_client_is_closed_after_a_while() {
        let address = start();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "closed by the server");
    }
}
