//! The outage, measured from outside: connection attempts at fixed times, none waiting for another, each a single SYN with a
//! source port of its own, sent and heard on a raw socket of the client.
//!
//! A client's kernel would repeat an unanswered SYN after a second and so round every outage up; one SYN an attempt does not.
//! The client's kernel, which knows nothing of the attempt, resets what is answered, so nothing stays half-open on the node.
//! At a high rate the same attempts are the load under which `capture` looks for flows that two nodes answer.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use etherparse::TcpHeader;
use lb_common::address::Address;
use lb_common::flow::bucket_of;
use lb_common::table::{Affinity, Bucket, Rule};
use lb_user::clock::Time;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::client::Https;
use crate::lab::{Lab, PUBLIC};
use crate::stalls::{self, Pace};

/// An attempt that is not answered within this time has failed.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// Time from one attempt to the next.
pub const PERIOD: Duration = Duration::from_millis(2);

/// Source ports that one address gives: all above the privileged ones.
const PORTS_PER_ADDRESS: usize = 64_512;
const FIRST_PORT: u16 = 1024;

/// Threads that send, by turns. What a SYN costs all the kernels it passes is done in its sender's time, and with eight nodes that
/// is more than one processor has.
const SENDERS: usize = 2;

/// How far behind a sender may be before it catches up in small bursts with pauses between. Sent all at once, what it missed would
/// fill queues that clients do not fill, and be lost there.
const LATE: Duration = Duration::from_millis(5);
/// Attempts in such a burst, and the pause after it.
const BURST: (usize, Duration) = (20, Duration::from_micros(100));

/// Attempts under way.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<Result<()>>>,
    receiver: JoinHandle<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    sources: Vec<Ipv4Addr>,
    target: SocketAddrV4,
    /// When each attempt was sent and answered, in nanoseconds; 0: not yet.
    slots: Vec<(AtomicU64, AtomicU64)>,
    sent: Arc<AtomicUsize>,
    stop: AtomicBool,
    deaf: AtomicBool,
}

/// One SYN, and whether it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The client's address and port.
    pub source: SocketAddrV4,
    /// When it was sent.
    pub sent: Time,
    /// When the first SYN-ACK came, however late.
    pub answered: Option<Time>,
}

impl Attempt {
    /// Whether it was answered in time.
    pub fn succeeded(&self) -> bool {
        self.answered.is_some_and(|answered| answered.since(self.sent) <= PATIENCE)
    }

    /// The bucket it falls into.
    pub fn bucket(&self, seed: [u64; 2]) -> Bucket {
        bucket_of(
            seed,
            &Rule::new(1, Affinity::None),
            &Address::v4(self.source.ip().octets()),
            self.source.port(),
        )
    }
}

impl Prober {
    /// Attempts every 2 ms to the public port 443, for at most two minutes.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::every(lab, PERIOD, 60_000)
    }

    /// `per_second` attempts a second, for at most `longest`: load.
    pub fn flood(lab: &Lab, per_second: u32, longest: Duration) -> Result<Self> {
        let limit = f64::from(per_second) * longest.as_secs_f64();
        ensure!((1.0..=2_000_000.0).contains(&limit), "a flood of {limit} attempts is out of bounds");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked on the line above"
        )]
        Self::every(lab, Duration::from_secs(1) / per_second, limit as usize)
    }

    fn every(lab: &Lab, period: Duration, limit: usize) -> Result<Self> {
        let addresses = 0..limit.div_ceil(PORTS_PER_ADDRESS);
        let shared = Arc::new(Shared {
            sources: addresses.map(|_| lab.client_address()).collect::<Result<_>>()?,
            target: SocketAddrV4::new(PUBLIC, 443),
            slots: (0..limit).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect(),
            sent: Arc::default(),
            stop: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
        });
        let (senders, ears) = lab.client.enter(|| shared.sockets())??;
        let (senders, start) = (Arc::new(senders), Time::now());
        stalls::expect(Pace::new(start, period, limit, Arc::clone(&shared.sent)));
        let send = |first: usize| {
            let (shared, senders) = (Arc::clone(&shared), Arc::clone(&senders));
            thread::spawn(move || shared.send_all(&senders, first, start, period))
        };
        let to_hear = Arc::clone(&shared);
        Ok(Self {
            senders: (0..SENDERS).map(send).collect(),
            receiver: thread::spawn(move || to_hear.hear(&ears)),
            shared,
        })
    }

    /// How many attempts were made so far.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Acquire)
    }

    /// Ends the attempts, waits until the last one is answered or has failed, and gives them all in the order they were made.
    pub fn finish(self) -> Result<Vec<Attempt>> {
        let Self { shared, senders, receiver } = self;
        shared.stop.store(true, Ordering::Release);
        stalls::expect_no_more();
        for sender in senders {
            sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        thread::sleep(PATIENCE * 2);
        shared.deaf.store(true, Ordering::Release);
        receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        Ok(shared.attempts())
    }
}

impl Shared {
    /// The source address and port of attempt `index`.
    fn source(&self, index: usize) -> SocketAddrV4 {
        let port = u16::try_from(index % PORTS_PER_ADDRESS).unwrap_or(0) + FIRST_PORT;
        SocketAddrV4::new(self.sources[index / PORTS_PER_ADDRESS], port)
    }

    fn index(&self, source: SocketAddrV4) -> Option<usize> {
        let address = self.sources.iter().position(|ip| ip == source.ip())?;
        let port = usize::from(source.port().checked_sub(FIRST_PORT)?);
        Some(address * PORTS_PER_ADDRESS + port)
    }

    /// One socket for each source address, and one that hears what is answered.
    fn sockets(&self) -> Result<(Vec<Socket>, Socket)> {
        let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP));
        let mut senders = Vec::new();
        for &source in &self.sources {
            let socket = raw().context("a raw socket needs root")?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            // It never reads: without this its buffer fills with copies of every answer.
            socket.attach_filter(&[SockFilter::new(BPF_RET, 0, 0, 0)])?;
            socket.set_send_buffer_size(4 << 20)?;
            senders.push(socket);
        }
        let ears = raw()?;
        ears.attach_filter(&syn_acks_from(self.target))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&ears, 32 << 20)?;
        ears.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok((senders, ears))
    }

    /// Makes every so many-th attempt from the `first` on.
    fn send_all(&self, senders: &[Socket], first: usize, start: Time, period: Duration) -> Result<()> {
        let target = SocketAddr::from(self.target).into();
        let (burst, pause) = BURST;
        for (index, slot) in self.slots.iter().enumerate().skip(first).step_by(SENDERS) {
            let due = start + period.saturating_mul(u32::try_from(index)?);
            loop {
                if self.stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                let wait = due.since(Time::now());
                if wait.is_zero() {
                    break;
                }
                thread::sleep(wait);
            }
            if Time::now().since(due) > LATE && (index / SENDERS).is_multiple_of(burst) {
                thread::sleep(pause);
            }
            let syn = self.syn(index)?;
            // The time before the packet leaves: an answer can never seem older than its attempt.
            slot.0.store(Time::now().as_nanos(), Ordering::Release);
            self.sent.fetch_add(1, Ordering::AcqRel);
            let sent = senders[index / PORTS_PER_ADDRESS].send_to(&syn, &target);
            sent.with_context(|| format!("could not send a SYN from {}", self.source(index)))?;
        }
        Ok(())
    }

    fn syn(&self, index: usize) -> Result<Vec<u8>> {
        let source = self.source(index);
        let mut header = TcpHeader::new(source.port(), self.target.port(), first_sequence(index), 64_240);
        header.syn = true;
        header.checksum =
            header.calc_checksum_ipv4_raw(source.ip().octets(), self.target.ip().octets(), &[])?;
        Ok(header.to_bytes().to_vec())
    }

    fn hear(&self, ears: &Socket) -> Result<()> {
        let mut buffer = [0; 256];
        while !self.deaf.load(Ordering::Acquire) {
            let length = match (&*ears).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error).context("could not hear"),
            };
            let now = Time::now().as_nanos();
            let Some(index) = self.answers(&buffer[..length]) else {
                continue;
            };
            // Only the first answer counts here; a second one is the capture's affair.
            let _ = self.slots[index].1.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The attempt that an IPv4 packet answers, if it is a SYN-ACK to one.
    fn answers(&self, packet: &[u8]) -> Option<usize> {
        let (ip, rest) = etherparse::Ipv4Header::from_slice(packet).ok()?;
        let (tcp, _) = TcpHeader::from_slice(rest).ok()?;
        let index = self.index(SocketAddrV4::new(ip.destination.into(), tcp.destination_port))?;
        let slot = self.slots.get(index)?;
        let expected = first_sequence(index).wrapping_add(1);
        (tcp.syn && tcp.ack && tcp.acknowledgment_number == expected && slot.0.load(Ordering::Acquire) != 0)
            .then_some(index)
    }

    fn attempts(&self) -> Vec<Attempt> {
        let time = |nanos: u64| (nanos != 0).then_some(Time::from_nanos(nanos));
        let slots = self.slots.iter().enumerate();
        let attempts = slots.filter_map(|(index, slot)| {
            let sent = time(slot.0.load(Ordering::Acquire))?;
            let answered = time(slot.1.load(Ordering::Acquire));
            Some(Attempt { source: self.source(index), sent, answered })
        });
        let mut attempts: Vec<_> = attempts.collect();
        attempts.sort_by_key(|attempt| attempt.sent);
        attempts
    }
}

/// Every attempt's first sequence number is another, so that no late answer is taken for an earlier attempt's.
fn first_sequence(index: usize) -> u32 {
    (index as u64).wrapping_mul(2_654_435_761) as u32
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
    )
}

const BPF_RET: u16 = 0x06;
const BPF_LD_W_ABS: u16 = 0x20;
const BPF_LD_H_ABS: u16 = 0x28;
const BPF_LD_B_ABS: u16 = 0x30;
const BPF_JEQ: u16 = 0x15;
const BPF_AND: u16 = 0x54;

/// Passes IPv4 packets without options that are SYN-ACKs from `from`.
fn syn_acks_from(from: SocketAddrV4) -> [SockFilter; 9] {
    let insn = SockFilter::new;
    [
        insn(BPF_LD_W_ABS, 0, 0, 12),
        insn(BPF_JEQ, 0, 6, from.ip().to_bits()),
        insn(BPF_LD_H_ABS, 0, 0, 20),
        insn(BPF_JEQ, 0, 4, u32::from(from.port())),
        insn(BPF_LD_B_ABS, 0, 0, 33),
        insn(BPF_AND, 0, 0, 0x12),
        insn(BPF_JEQ, 0, 1, 0x12),
        insn(BPF_RET, 0, 0, 256),
        insn(BPF_RET, 0, 0, 0),
    ]
}

/// What a fault cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// From the fault to the first counted attempt after which none fails; `None` if they fail to the end.
    pub length: Option<Duration>,
    /// Attempts after the fault whose bucket the victim held at it.
    pub counted: usize,
    /// How many of them failed.
    pub failed: usize,
    /// Attempts after the fault in buckets of others that failed all the same.
    pub failed_elsewhere: usize,
}

impl Outage {
    /// Measures a fault at `fault` in `attempts`; `held` says whether the victim held an attempt's bucket then.
    pub fn of(attempts: &[Attempt], fault: Time, held: impl Fn(&Attempt) -> bool) -> Self {
        let after = attempts.iter().filter(|attempt| attempt.sent >= fault);
        let (counted, elsewhere): (Vec<&Attempt>, Vec<&Attempt>) = after.partition(|attempt| held(attempt));
        let failed = |of: &[&Attempt]| of.iter().filter(|attempt| !attempt.succeeded()).count();
        let last_failed = counted.iter().rposition(|attempt| !attempt.succeeded());
        let recovered = match last_failed {
            None => Some(fault),
            Some(index) => counted.get(index + 1).map(|attempt| attempt.sent),
        };
        Self {
            length: recovered.map(|time| time.since(fault)),
            counted: counted.len(),
            failed: failed(&counted),
            failed_elsewhere: failed(&elsewhere),
        }
    }
}

/// How long attempts may succeed between two that fail before these count as two gaps.
const BETWEEN_GAPS: Duration = Duration::from_millis(50);

/// The longest gap in `attempts`: from one that failed to the first that succeeded after which none failed for a while. While a
/// share moves, some buckets may be served and others not; so successes in between end no gap.
pub fn longest_gap(attempts: &[Attempt]) -> Duration {
    let mut longest = Duration::ZERO;
    let mut gap: Option<(Time, Time)> = None;
    for (attempt, next) in attempts.iter().zip(attempts.iter().skip(1)) {
        if attempt.succeeded() {
            continue;
        }
        let begun = gap.filter(|(_, end)| attempt.sent.since(*end) < BETWEEN_GAPS);
        let begun = begun.map_or(attempt.sent, |(begun, _)| begun);
        gap = Some((begun, next.sent));
        longest = longest.max(next.sent.since(begun));
    }
    longest
}

/// Plain connections, one after the other, as a client's kernel makes them: what people feel of an outage.
#[derive(Debug)]
pub struct Connects {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Connects {
    /// Four clients that connect and close, each every 20 ms or as fast as it is answered; at most 2 minutes.
    pub fn start(https: &Https) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4).map(|_| {
            let (https, stop) = (https.clone(), Arc::clone(&stop));
            thread::spawn(move || longest_connect(&https, &stop))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// The longest of all.
    pub fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Release);
        let longest = self.threads.into_iter().filter_map(|thread| thread.join().ok());
        longest.max().unwrap_or_default()
    }
}

fn longest_connect(https: &Https, stop: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    let end = Time::now() + Duration::from_secs(120);
    while !stop.load(Ordering::Acquire) && Time::now() < end {
        let start = Time::now();
        // A connection that is refused or times out took that long, too.
        let _ = https.connect_tcp();
        longest = longest.max(Time::now().since(start));
        thread::sleep(Duration::from_millis(20));
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts every 10 ms from 0 on, with each one's port as its bucket and `answers` as whether they succeed.
    fn attempts(answers: &[(u16, bool)]) -> Vec<Attempt> {
        let rows = answers.iter().zip(0..);
        rows.map(|(&(port, succeeds), index)| {
            let sent = Time::from_nanos(index * 10_000_000);
            Attempt {
                source: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
                sent,
                answered: succeeds.then(|| sent + Duration::from_millis(1)),
            }
        })
        .collect()
    }

    fn outage(answers: &[(u16, bool)], fault_ms: u64) -> Outage {
        let fault = Time::from_nanos(fault_ms * 1_000_000);
        Outage::of(&attempts(answers), fault, |attempt| attempt.source.port() == 1)
    }

    #[test]
    fn the_outage_ends_with_the_attempt_after_which_none_fails() {
        let found = outage(&[(1, true), (1, false), (1, true), (1, false), (1, true), (1, true)], 5);
        assert_eq!(found.length, Some(Duration::from_millis(35)));
        assert_eq!((found.counted, found.failed), (5, 2));
    }

    #[test]
    fn attempts_in_buckets_of_others_do_not_count() {
        let found = outage(&[(1, true), (2, false), (1, true), (2, false)], 5);
        assert_eq!(found.length, Some(Duration::ZERO));
        assert_eq!((found.counted, found.failed, found.failed_elsewhere), (1, 0, 2));
    }

    #[test]
    fn failures_before_the_fault_do_not_count() {
        let found = outage(&[(1, false), (1, false), (1, true)], 15);
        assert_eq!((found.length, found.failed), (Some(Duration::ZERO), 0));
    }

    #[test]
    fn an_outage_that_lasts_to_the_end_has_no_length() {
        assert_eq!(outage(&[(1, true), (1, false)], 5).length, None);
    }

    #[test]
    fn failures_close_together_are_one_gap_and_others_are_not() {
        let gap = |failed: &[usize]| {
            let answers: Vec<_> = (0..40).map(|index| (1, !failed.contains(&index))).collect();
            longest_gap(&attempts(&answers))
        };
        assert_eq!(gap(&[]), Duration::ZERO);
        assert_eq!(gap(&[3]), Duration::from_millis(10));
        assert_eq!(gap(&[3, 6]), Duration::from_millis(40));
        assert_eq!(gap(&[3, 20, 21]), Duration::from_millis(20));
    }

    #[test]
    fn a_late_answer_is_a_failure() {
        let mut late = attempts(&[(1, true)]);
        late[0].answered = Some(late[0].sent + PATIENCE + Duration::from_nanos(1));
        assert!(!late[0].succeeded());
    }
}
