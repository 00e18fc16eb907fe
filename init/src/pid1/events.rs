//! The sender of boot events: a thread with a bounded queue. The boot never waits for it, and a full queue drops the
//! newest: no event is worth a boot.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use url::Url;

use super::http;
use super::tls::Dates;
use crate::event::Event;

const QUEUE: usize = 128;
/// How often an event is tried, a second apart: before the network is up there is nobody to take it.
const TRIES: u32 = 30;

/// Posts to the server; [`Sender::none`] posts nowhere.
pub struct Sender {
    queue: Option<SyncSender<Event>>,
}

impl Sender {
    /// Starts the thread for `SERVER/v1/boot/SERIAL/events`.
    pub fn start(server: &Url, serial: &str) -> Self {
        let Ok(url) = server.join(&format!("/v1/boot/{serial}/events")) else { return Self::none() };
        let (queue, events) = sync_channel(QUEUE);
        match std::thread::Builder::new().name("events".into()).spawn(move || post(&url, &events)) {
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
            let _ = queue.try_send(event);
        }
    }
}

fn post(url: &Url, events: &Receiver<Event>) {
    let client = match http::client(&http::transport(), Dates::Told) {
        Ok(client) => client,
        Err(error) => return tracing::warn!("no events will be sent: {error:#}"),
    };
    let mut told = false;
    for event in events {
        let Ok(body) = serde_json::to_vec(&event) else { continue };
        for _ in 0..TRIES {
            let request =
                client.post(url.clone()).header("content-type", "application/json").body(body.clone());
            match request.timeout(Duration::from_secs(5)).send() {
                Ok(response) if response.status().is_success() => break,
                // It is there and will not have it: it never will.
                Ok(response) => {
                    if !told {
                        tracing::warn!("the boot server refuses events ({}): {url}", response.status());
                    }
                    told = true;
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_secs(1)),
            }
        }
    }
}
