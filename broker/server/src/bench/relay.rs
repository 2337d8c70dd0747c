//! `nervewire bench relay`: only frames packets and forwards bytes. What it costs, no broker can go below.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode;
use super::fleet::{Fleet, Handler};
use super::outbox::Outbox;
use super::{Version, make_room_for};

/// A subscriber that is this far behind gets nothing more until it has caught up.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
const REFUSED: u8 = 0x80;

/// Arguments of `nervewire bench relay`.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// TCP port to listen on; 0 = any that is free
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// Connections to make room for
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

/// Serves until the process is ended.
pub(super) fn run(args: &RelayArgs) -> anyhow::Result<ExitCode> {
    make_room_for(args.connections)?;
    let mut fleet = Fleet::new()?;
    let bound = fleet.listen(SocketAddr::new(args.host, args.port))?;
    println!("relaying QoS 0 on {bound}");
    let mut relay = Relay::default();
    let mut reported = 0;
    loop {
        fleet.pass(Duration::from_secs(1), &mut relay)?;
        if relay.dropped > reported {
            reported = relay.dropped;
            eprintln!("{reported} messages dropped for slow subscribers");
        }
    }
}

#[derive(Debug, Default)]
struct Relay {
    clients: Vec<Client>,
    exact: HashMap<Vec<u8>, Vec<usize>>,
    /// Filters that end in a wildcard, by what comes before it.
    prefixes: Vec<Prefix>,
    /// Counts changes of the subscriptions, so that clients know when their route is stale.
    generation: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Prefix {
    before: Vec<u8>,
    wildcard: u8,
    link: usize,
}

#[derive(Debug, Default)]
struct Client {
    version: Option<Version>,
    /// The topic published last and who gets it: publishers hardly ever change their topic.
    topic: Vec<u8>,
    route: Vec<usize>,
    generation: u64,
}

impl Relay {
    fn client(&mut self, link: usize) -> &mut Client {
        if link >= self.clients.len() {
            self.clients.resize_with(link + 1, Client::default);
        }
        &mut self.clients[link]
    }

    #[inline]
    fn forward(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        ensure!(frame.first & 0x06 == 0, "the relay takes messages at QoS 0 only");
        let client = &self.clients[link];
        // Only the topic is looked at, and not copied: the bytes go out as they came in.
        let topic = frame.body.get(2..).unwrap_or_default();
        let same = topic.starts_with(&client.topic) && length_of(frame.body) == client.topic.len();
        if !same || client.generation != self.generation {
            self.find_route(link, frame)?;
        }
        for &subscriber in &self.clients[link].route {
            if outbox.waiting_bytes(subscriber) > MAX_WAITING_BYTES {
                self.dropped += 1;
            } else {
                outbox.buffer(subscriber).extend_from_slice(frame.bytes);
            }
        }
        Ok(())
    }

    #[cold]
    fn find_route(&mut self, link: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        let version = self.clients[link].version;
        let publish = decode::publish(frame, version.unwrap_or(Version::V4))?;
        let exact = self.exact.get(publish.topic).into_iter().flatten().copied();
        let prefixes = self
            .prefixes
            .iter()
            .filter(|prefix| prefix.matches(publish.topic))
            .map(|prefix| prefix.link);
        // Bytes as they came mean nothing to a client of another version.
        let mut route: Vec<usize> = exact
            .chain(prefixes)
            .filter(|&subscriber| self.clients[subscriber].version == version)
            .collect();
        route.sort_unstable();
        route.dedup();
        let generation = self.generation;
        self.clients[link] = Client {
            version,
            topic: publish.topic.to_vec(),
            route,
            generation,
        };
        Ok(())
    }

    fn subscribe(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let version = self.client(link).version.unwrap_or(Version::V4);
        let (packet_id, filters) = decode::subscribe(frame, version)?;
        let codes: Vec<u8> = filters.iter().map(|filter| self.add(link, filter)).collect();
        self.generation += 1;
        outbox
            .buffer(link)
            .extend_from_slice(&encode::suback(version, packet_id, &codes));
        Ok(())
    }

    /// The SUBACK code for `filter`: the relay knows plain topics and one wildcard at the end.
    fn add(&mut self, link: usize, filter: &[u8]) -> u8 {
        let is_wildcard = |byte: &u8| matches!(byte, b'+' | b'#');
        match filter {
            [before @ .., wildcard] if is_wildcard(wildcard) && !before.iter().any(is_wildcard) => {
                self.prefixes.push(Prefix {
                    before: before.to_vec(),
                    wildcard: *wildcard,
                    link,
                });
            }
            filter if filter.iter().any(is_wildcard) => return REFUSED,
            filter => self.exact.entry(filter.to_vec()).or_default().push(link),
        }
        0
    }
}

/// The length of the topic at the beginning of the body of a PUBLISH.
#[inline]
fn length_of(body: &[u8]) -> usize {
    body.first_chunk()
        .map_or(0, |length| u16::from_be_bytes(*length).into())
}

impl Prefix {
    fn matches(&self, topic: &[u8]) -> bool {
        match topic.strip_prefix(self.before.as_slice()) {
            Some(rest) => self.wildcard == b'#' || !rest.contains(&b'/'),
            None => false,
        }
    }
}

impl Handler for Relay {
    #[inline]
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        match frame.first & 0xF0 {
            encode::PUBLISH if link < self.clients.len() => self.forward(link, &frame, outbox),
            encode::CONNECT => {
                let version = decode::connect_version(&frame)?;
                *self.client(link) = Client {
                    version: Some(version),
                    ..Client::default()
                };
                outbox.buffer(link).extend_from_slice(&encode::connack(version));
                Ok(())
            }
            encode::SUBSCRIBE_KIND => self.subscribe(link, &frame, outbox),
            encode::PINGREQ => {
                outbox.buffer(link).extend_from_slice(&[encode::PINGRESP, 0]);
                Ok(())
            }
            encode::DISCONNECT => Ok(()),
            _ => bail!("the relay cannot handle a {}", kind_name(frame.first)),
        }
    }

    fn closed(&mut self, link: usize, _reason: &str) -> anyhow::Result<()> {
        *self.client(link) = Client::default();
        self.exact
            .values_mut()
            .for_each(|links| links.retain(|other| *other != link));
        self.exact.retain(|_, links| !links.is_empty());
        self.prefixes.retain(|prefix| prefix.link != link);
        self.generation += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::encode::{Credentials, PublishTemplate};
    use super::*;

    const PUBLISHER: usize = 0;

    /// Connection 0 publishes on `topic`; connections 1 and up subscribe to `filters`, one each.
    fn check(filters: &[&str], topic: &str, receivers: &[usize]) {
        let (mut relay, mut outbox) = (Relay::default(), Outbox::default());
        let nobody = Credentials {
            username: None,
            password: None,
        };
        let mut feed = |link, bytes: &[u8], outbox: &mut Outbox| {
            relay
                .frame(link, decode::frame(bytes).unwrap().unwrap(), outbox)
                .unwrap();
        };
        for link in 0..=filters.len() {
            outbox.open(link);
            feed(link, &encode::connect(Version::V4, "c", &nobody), &mut outbox);
        }
        for (at, filter) in filters.iter().enumerate() {
            feed(
                at + 1,
                &encode::subscribe(Version::V4, &[(*filter).to_owned()], 0),
                &mut outbox,
            );
        }
        let mut publish = Vec::new();
        PublishTemplate::new(Version::V4, topic, 0, 4).append(&mut publish, 0, b"");
        feed(PUBLISHER, &publish, &mut outbox);
        let got = (0..=filters.len()).filter(|&link| outbox.buffer(link).ends_with(&publish));
        assert_eq!(got.collect::<Vec<_>>(), receivers, "{topic} to {filters:?}");
    }

    #[test]
    fn bytes_go_to_whom_the_topic_concerns() {
        check(&["a/1", "a/2"], "a/1", &[1]);
        check(&["a/1", "a/1"], "a/1", &[1, 2]);
        check(&["a/+", "a/#", "#", "a/1/2"], "a/1", &[1, 2, 3]);
        check(&["a/+", "a/#"], "a/1/2", &[2]);
        check(&["+/1", "b"], "a/1", &[]);
    }
}
