//! Tickets by themselves; what rustls makes of them is `tls::tests`.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::site::SiteTls;
use super::*;

const EPOCH: u32 = 43_200;

/// A node whose clock the test sets.
struct Node {
    tickets: Tickets,
    now: Arc<AtomicU64>,
}

impl Node {
    fn new(secrets: &[u8], site: &str) -> Self {
        let now = Arc::new(AtomicU64::new(u64::from(EPOCH) * 40_000));
        let clock = Arc::clone(&now);
        let settings = TicketSettings {
            secrets: secrets.iter().map(|secret| TicketSecret::new([*secret; 32])).collect(),
            epoch: EPOCH,
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        };
        let policy = Policy::of(site, &SiteTls::default(), b"leaf").unwrap();
        Self { tickets: Tickets::new(&settings, policy), now }
    }

    fn issue(&self) -> Vec<u8> {
        self.tickets.encrypt(b"session").unwrap()
    }

    fn accepts(&self, ticket: &[u8]) -> bool {
        let opened = self.tickets.decrypt(ticket);
        assert!(opened.as_deref().is_none_or(|session| session == b"session"));
        opened.is_some()
    }

    fn wait(&self, seconds: i64) {
        let now = self.now.load(Ordering::Relaxed);
        self.now.store(now.checked_add_signed(seconds).unwrap(), Ordering::Relaxed);
    }
}

#[test]
fn every_node_with_the_secret_accepts_the_tickets_of_the_same_site() {
    let ticket = Node::new(&[1], "mail").issue();
    for (secrets, site, accepted) in [
        (&[1][..], "mail", true),
        (&[2, 1], "mail", true),
        (&[2, 3, 1], "mail", true),
        (&[2], "mail", false),
        (&[1], "www", false),
        (&[], "mail", false),
    ] {
        assert_eq!(Node::new(secrets, site).accepts(&ticket), accepted, "{secrets:?} {site}");
    }
    assert!(Node::new(&[], "mail").tickets.encrypt(b"session").is_none());
}

#[test]
fn tickets_of_the_previous_the_current_and_the_next_epoch_are_accepted() {
    let epoch = i64::from(EPOCH);
    for (later, accepted) in [
        (-epoch - 1, false),
        (-epoch, true),
        (-1, true),
        (0, true),
        (2 * epoch - 1, true),
        (2 * epoch, false),
    ] {
        let node = Node::new(&[1], "mail");
        let ticket = node.issue();
        node.wait(later);
        assert_eq!(node.accepts(&ticket), accepted, "{later} s later");
    }
}

#[test]
fn a_ticket_is_accepted_at_least_for_the_lifetime_that_its_client_was_told() {
    let node = Node::new(&[1], "mail");
    node.wait(i64::from(EPOCH) - 1);
    let ticket = node.issue();
    node.wait(i64::from(node.tickets.lifetime()));
    assert!(node.accepts(&ticket));
    node.wait(1);
    assert!(!node.accepts(&ticket));
}

#[test]
fn a_session_that_is_too_long_gets_no_ticket() {
    let node = Node::new(&[1], "mail");
    let longest = node.tickets.encrypt(&[7; LONGEST_SESSION]).unwrap();
    assert_eq!(longest.len(), LONGEST_SESSION + OVERHEAD);
    assert_eq!(node.tickets.decrypt(&longest), Some(vec![7; LONGEST_SESSION]));
    assert_eq!(node.tickets.encrypt(&[7; LONGEST_SESSION + 1]), None);
    let keys = node.tickets.keys();
    let longer = keys.sealing.as_ref().unwrap().seal(&[7; LONGEST_SESSION + 1]).unwrap();
    assert_eq!(node.tickets.decrypt(&longer), None);
}

#[test]
fn the_same_session_never_makes_the_same_ticket() {
    let node = Node::new(&[1], "mail");
    assert_ne!(node.issue(), node.issue());
}

proptest! {
    #[test]
    fn no_bytes_from_outside_are_a_ticket(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!Node::new(&[1], "mail").accepts(&bytes));
    }

    #[test]
    fn a_changed_or_shortened_ticket_is_none(at: prop::sample::Index, flip in 1..=255_u8, keep: prop::sample::Index) {
        let node = Node::new(&[1], "mail");
        let mut ticket = node.issue();
        prop_assert!(!node.accepts(&ticket[..keep.index(ticket.len())]));
        let at = at.index(ticket.len());
        ticket[at] ^= flip;
        prop_assert!(!node.accepts(&ticket));
    }
}
