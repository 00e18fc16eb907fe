//! The sender of boot events: a thread with a bounded queue ([`super::event_queue`]). The boot never waits for it. While
//! the server cannot be reached events wait for it, for as long as it takes; one that it refuses is dropped.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use url::Url;

use super::event_queue::EventQueue;
use super::http;
use super::tls::Dates;
use crate::event::Event;

/// A server that is silent for so long is asked again.
const SILENCE: Duration = Duration::from_secs(5);
/// From one try to the next: at first, …
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// … and at most. The network may come after an hour; who looks at the server wants to know soon.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Posts to the server; [`Sender::none`] posts nowhere.
pub struct Sender {
    queue: Option<Arc<EventQueue>>,
}

impl Sender {
    /// Starts the thread for `SERVER/v1/boot/SERIAL/events`.
    pub fn start(server: &Url, serial: &str) -> Self {
        let Ok(url) = server.join(&format!("/v1/boot/{serial}/events")) else { return Self::none() };
        let queue = Arc::new(EventQueue::default());
        let taken = queue.clone();
        match std::thread::Builder::new().name("events".into()).spawn(move || Post::new(url).all(&taken)) {
            Ok(_) => Sender { queue: Some(queue) },
            Err(error) => {
                tracing::warn!("starting the event sender: {error}");
                Self::none()
            }
        }
    }

    /// Nobody is told.
    pub fn none() -> Self {
        Sender { queue: None }
    }

    /// Queues an event.
    pub fn send(&self, event: Event) {
        if let Some(queue) = &self.queue {
            queue.push(event);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.close();
        }
    }
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The server is there and will not have it: it never will.
    Refused(StatusCode),
    /// Worth another try.
    Failed(String),
}

struct Post {
    url: Url,
    /// Made anew after each failure: the name servers may have changed since.
    client: Option<Client>,
    /// What was said last, so that days without a server do not fill the log.
    told: Option<Outcome>,
}

impl Post {
    fn new(url: Url) -> Self {
        Post { url, client: None, told: None }
    }

    fn all(mut self, queue: &EventQueue) {
        let mut wait = FIRST_WAIT;
        while let Some(event) = queue.first() {
            let Ok(body) = serde_json::to_vec(&event) else {
                queue.done(event.sequence);
                continue;
            };
            let outcome = self.once(body);
            if let Outcome::Failed(_) = outcome {
                self.client = None;
                self.tell(outcome);
                if queue.closed_within(wait) {
                    return;
                }
                wait = (wait * 2).min(LAST_WAIT);
            } else {
                wait = FIRST_WAIT;
                queue.done(event.sequence);
                self.tell(outcome);
            }
        }
    }

    fn once(&mut self, body: Vec<u8>) -> Outcome {
        let client =
            match self.client.take().map_or_else(|| http::client(&http::transport(), Dates::Told), Ok) {
                Ok(client) => client,
                Err(error) => return Outcome::Failed(format!("{error:#}")),
            };
        let request = client.post(self.url.clone()).header("content-type", "application/json").body(body);
        let outcome = match request.timeout(SILENCE).send() {
            Ok(response) => of_status(response.status()),
            Err(error) => Outcome::Failed(http::causes(&error.without_url())),
        };
        self.client = Some(client);
        outcome
    }

    /// Says what is new.
    fn tell(&mut self, outcome: Outcome) {
        let is_new = self.told.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&outcome));
        match &outcome {
            Outcome::Refused(status) if is_new => {
                tracing::warn!("the boot server refuses events ({status}): {}", self.url);
            }
            Outcome::Failed(why) if is_new => {
                tracing::info!("the boot server {} has to wait for events: {why}", self.url);
            }
            Outcome::Sent if is_new && self.told.is_some() => tracing::info!("the boot server takes events"),
            _ => {}
        }
        self.told = Some(outcome);
    }
}

/// RFC 9110, section 15.5: the client is at fault; but two of its codes are about the moment.
fn of_status(status: StatusCode) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Sent,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Outcome::Failed(status.to_string()),
        status if status.is_client_error() => Outcome::Refused(status),
        status => Outcome::Failed(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::event::State;
    use crate::pid1::event_queue::tests::event;

    #[test]
    fn only_what_is_refused_is_dropped() {
        for (status, outcome) in [(204, "Sent"), (400, "Refused"), (413, "Refused")] {
            assert!(format!("{:?}", of_status(StatusCode::from_u16(status).unwrap())).starts_with(outcome));
        }
        for status in [302, 408, 429, 500, 503] {
            let outcome = of_status(StatusCode::from_u16(status).unwrap());
            assert!(matches!(outcome, Outcome::Failed(_)), "{status}: {outcome:?}");
        }
    }

    /// Answers one request, and gives what it brought.
    fn answer(stream: TcpStream, status: &str) -> Event {
        let mut lines = BufReader::new(&stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body).unwrap();
        write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// A server that is not there at first, is in trouble then, and refuses one event at last.
    #[test]
    fn events_wait_for_the_server_and_come_in_their_order() {
        // A port that nobody has: the listener takes it only after the first try.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sender = Sender::start(&Url::parse(&format!("http://{free}")).unwrap(), "1");
        for sequence in 1..=3 {
            sender.send(event(sequence, "network", State::Waiting));
        }
        let server = TcpListener::bind(free).unwrap();
        let mut seen = Vec::new();
        for status in ["503 Busy", "204 Fine", "400 No", "204 Fine"] {
            seen.push(answer(server.accept().unwrap().0, status).sequence);
        }
        assert_eq!(seen, [1, 1, 2, 3]);
    }
}
