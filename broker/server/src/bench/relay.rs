//! `nervewire bench relay`: only frames packets and forwards bytes. What it costs, no broker can go below.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode;
use super::fleet::{Fleet, Handler};
use super::outbox::Outbox;
use super::relay_tokio;
use super::target::{Version, make_room_for};

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
    /// What drives it
    #[arg(long, value_enum, default_value = "mio")]
    runtime: Runtime,
}

/// What drives the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Runtime {
    /// A readiness loop
    Mio,
    /// tokio's current-thread runtime, a task for each connection
    Tokio,
}

/// Serves until the process is ended.
pub(super) fn run(args: &RelayArgs) -> anyhow::Result<ExitCode> {
    make_room_for(args.connections)?;
    let address = SocketAddr::new(args.host, args.port);
    match args.runtime {
        Runtime::Mio => serve(address)?,
        Runtime::Tokio => relay_tokio::run(address)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let mut fleet = Fleet::new()?;
    announce(fleet.listen(address)?)?;
    let mut relay = Relay::default();
    loop {
        fleet.pass(Duration::from_secs(1), &mut relay)?;
    }
}

/// Says where it listens, to whoever waits for that.
pub(super) fn announce(bound: SocketAddr) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "relaying QoS 0 on {bound}")?;
    Ok(out.flush()?)
}

#[derive(Debug, Default)]
pub(super) struct Relay {
    clients: Vec<Client>,
    filters: FilterTable,
    /// Counts changes of the subscriptions, so that clients know when their route is stale.
    generation: u64,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Client {
    version: Option<Version>,
    filters: Vec<Vec<u8>>,
    /// The topic published last and who gets it: most publishers do not change their topic.
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
                self.report_dropped();
            } else {
                outbox.buffer(subscriber).extend_from_slice(frame.bytes);
            }
        }
        Ok(())
    }

    /// Not each of them: each time their number has doubled.
    #[cold]
    fn report_dropped(&self) {
        if self.dropped.is_power_of_two() {
            eprintln!("{} messages dropped for slow subscribers", self.dropped);
        }
    }

    fn find_route(&mut self, link: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        let version = self.clients[link].version;
        let publish = decode::publish(frame, version.unwrap_or(Version::V4))?;
        // Taken out, and put back with its space.
        let mut route = std::mem::take(&mut self.clients[link].route);
        route.clear();
        self.filters.find(publish.topic, &mut route);
        // Bytes as they came mean nothing to a client of another version.
        route.retain(|&subscriber| self.clients[subscriber].version == version);
        route.sort_unstable();
        route.dedup();
        let client = &mut self.clients[link];
        client.route = route;
        client.topic.clear();
        client.topic.extend_from_slice(publish.topic);
        client.generation = self.generation;
        Ok(())
    }

    fn subscribe(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let version = self.client(link).version.unwrap_or(Version::V4);
        let (packet_id, filters) = decode::subscribe(frame, version)?;
        let mut code = |filter: &&[u8]| {
            let added = self.filters.add(link, filter);
            if added {
                self.clients[link].filters.push(filter.to_vec());
            }
            if added { 0 } else { REFUSED }
        };
        let codes: Vec<u8> = filters.iter().map(&mut code).collect();
        self.generation += 1;
        outbox
            .buffer(link)
            .extend_from_slice(&encode::suback(version, packet_id, &codes));
        Ok(())
    }

    fn unsubscribe(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let version = self.client(link).version.unwrap_or(Version::V4);
        let (packet_id, filters) = decode::unsubscribe(frame, version)?;
        for filter in &filters {
            self.filters.remove(link, filter);
            self.clients[link].filters.retain(|other| other != filter);
        }
        self.generation += 1;
        outbox
            .buffer(link)
            .extend_from_slice(&encode::unsuback(version, packet_id, filters.len()));
        Ok(())
    }
}

/// Plain topics, and filters with one wildcard at the end, by what comes before it.
#[derive(Debug, Default)]
struct FilterTable {
    entries: HashMap<Vec<u8>, Vec<Entry>>,
    /// How many keys of `entries` have each length, so that others are not looked up.
    lengths: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    wildcard: Option<u8>,
    link: usize,
}

impl FilterTable {
    /// False for a filter with wildcards elsewhere.
    fn add(&mut self, link: usize, filter: &[u8]) -> bool {
        let Some((before, wildcard)) = split(filter) else {
            return false;
        };
        let entries = self.entries.entry(before.to_vec()).or_default();
        if entries.is_empty() {
            let needed = self.lengths.len().max(before.len() + 1);
            self.lengths.resize(needed, 0);
            self.lengths[before.len()] += 1;
        }
        entries.push(Entry { wildcard, link });
        true
    }

    fn remove(&mut self, link: usize, filter: &[u8]) {
        let Some((before, wildcard)) = split(filter) else {
            return;
        };
        let Some(entries) = self.entries.get_mut(before) else {
            return;
        };
        entries.retain(|entry| *entry != Entry { wildcard, link });
        if entries.is_empty() {
            self.entries.remove(before);
            self.lengths[before.len()] -= 1;
        }
    }

    /// Appends everybody whom `topic` concerns.
    fn find(&self, topic: &[u8], route: &mut Vec<usize>) {
        self.find_before(topic, topic, route);
        let slashes = topic.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for end in slashes.map(|(at, _)| at + 1).chain([0]) {
            self.find_before(&topic[..end], topic, route);
        }
    }

    #[inline]
    fn find_before(&self, before: &[u8], topic: &[u8], route: &mut Vec<usize>) {
        if self.lengths.get(before.len()).is_none_or(|keys| *keys == 0) {
            return;
        }
        let rest = &topic[before.len()..];
        let concerned = |entry: &&Entry| match entry.wildcard {
            None => rest.is_empty(),
            Some(b'+') => before.len() < topic.len() && !rest.contains(&b'/'),
            Some(_) => before.len() < topic.len(),
        };
        let entries = self.entries.get(before).into_iter().flatten();
        route.extend(entries.filter(concerned).map(|entry| entry.link));
    }
}

/// What comes before the wildcard of a filter, and the wildcard; `None` for a filter with wildcards elsewhere.
fn split(filter: &[u8]) -> Option<(&[u8], Option<u8>)> {
    let is_wildcard = |byte: &u8| matches!(byte, b'+' | b'#');
    match filter {
        [before @ .., wildcard] if is_wildcard(wildcard) => {
            let only = !before.iter().any(is_wildcard);
            only.then_some((before, Some(*wildcard)))
        }
        filter => (!filter.iter().any(is_wildcard)).then_some((filter, None)),
    }
}

/// The length of the topic at the beginning of the body of a PUBLISH.
#[inline]
fn length_of(body: &[u8]) -> usize {
    body.first_chunk()
        .map_or(0, |length| u16::from_be_bytes(*length).into())
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
            encode::UNSUBSCRIBE_KIND => self.unsubscribe(link, &frame, outbox),
            encode::PINGREQ => {
                outbox.buffer(link).extend_from_slice(&[encode::PINGRESP, 0]);
                Ok(())
            }
            encode::DISCONNECT => Ok(()),
            _ => bail!("the relay cannot handle a {}", kind_name(frame.first)),
        }
    }

    fn closed(&mut self, link: usize, _reason: &str) -> anyhow::Result<()> {
        let gone = std::mem::take(self.client(link));
        gone.filters.iter().for_each(|filter| self.filters.remove(link, filter));
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
            feed(
                link,
                &encode::connect(Version::V4, "c", &nobody, encode::Session::Clean),
                &mut outbox,
            );
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
        check(&["a/+", "a/1", "+"], "a", &[3]);
    }

    #[test]
    fn who_has_left_gets_nothing() {
        let (mut table, mut route) = (FilterTable::default(), Vec::new());
        for (link, filter) in [(1, "a/+"), (2, "a/+"), (1, "a/b")] {
            assert!(table.add(link, filter.as_bytes()));
        }
        table.remove(1, b"a/+");
        table.find(b"a/b", &mut route);
        assert_eq!(route, [1, 2]);
        table.remove(2, b"a/+");
        table.remove(1, b"a/b");
        assert!(table.entries.is_empty() && table.lengths.iter().all(|keys| *keys == 0));
    }
}
