//! The rules by which the end of a certificate is told.

use proptest::prelude::*;

use super::*;
use crate::proxy::tls::Facts;

/// Days since 1970.
fn day(day: u64) -> WallTime {
    WallTime::from_unix_ms(day * DAY * 1000)
}

/// A certificate that ends at the beginning of this day.
fn ends(number: u8, on: u64) -> ServedCertificate {
    let facts = Facts {
        subject: String::new(),
        names: vec!["mail.example.test".to_owned()],
        issuer: "CN=CA".to_owned(),
        not_after: Some(on * DAY),
        sha256: Fingerprint([number; 32]),
    };
    let sites = vec![format!("site{number}.example.test")];
    ServedCertificate { sites, file: "/root/mail.pfx".into(), facts, same_on: Vec::new() }
}

fn stages(notices: &[Notice]) -> Vec<Stage> {
    notices.iter().map(|notice| notice.stage).collect()
}

#[test]
fn each_stage_is_told_once_and_at_its_moment() {
    let mut expiry = Expiry::new(BTreeSet::new());
    assert_eq!(expiry.handle_certificates(vec![ends(1, 1000)], day(900)), []);
    let mut told = Vec::new();
    while let Some(next) = expiry.poll_timeout() {
        let before = WallTime::from_unix_ms(next.unix_ms() - 1);
        assert_eq!(expiry.handle_timeout(before), []);
        let notices = expiry.handle_timeout(next);
        assert_eq!(expiry.handle_timeout(next), []);
        told.push((next, stages(&notices)));
    }
    let over = WallTime::from_unix_ms(day(1000).unix_ms() + 1);
    let wanted = [
        (day(970), Stage::Month),
        (day(986), Stage::Fortnight),
        (day(997), Stage::Days),
        (over, Stage::Over),
    ];
    assert_eq!(told, wanted.map(|(on, stage)| (on, vec![stage])));
}

#[test]
fn of_several_stages_at_once_the_latest_is_told() {
    let mut expiry = Expiry::new(BTreeSet::new());
    let certificates = vec![ends(1, 1000), ends(2, 1020), ends(3, 2000)];
    let notices = expiry.handle_certificates(certificates, day(998));
    assert_eq!(stages(&notices), [Stage::Days, Stage::Month]);
    assert_eq!(notices[0].certificate.days_left, Some(2));
}

#[test]
fn another_certificate_is_told_of_and_the_same_is_not_again() {
    let mut expiry = Expiry::new(BTreeSet::new());
    assert_eq!(expiry.handle_certificates(vec![ends(1, 1000)], day(990)).len(), 1);
    assert_eq!(expiry.handle_certificates(vec![ends(1, 1000)], day(990)), []);
    assert_eq!(expiry.handle_certificates(vec![ends(2, 1000)], day(990)).len(), 1);
    assert_eq!(expiry.handle_certificates(vec![ends(1, 1000)], day(991)), []);
}

#[test]
fn a_clock_that_was_ahead_keeps_nothing_quiet_when_it_is_set_right() {
    let mut expiry = Expiry::new(BTreeSet::new());
    assert_eq!(stages(&expiry.handle_certificates(vec![ends(1, 1000)], day(1365))), [Stage::Over]);
    assert_eq!(expiry.handle_timeout(day(900)), []);
    assert_eq!(expiry.poll_timeout(), Some(day(970)));
    assert_eq!(stages(&expiry.handle_timeout(day(970))), [Stage::Month]);
    assert_eq!(stages(&expiry.handle_timeout(day(990))), [Stage::Fortnight]);
}

#[test]
fn the_status_names_what_ends_within_30_days_and_what_has_ended_the_first_first() {
    let mut expiry = Expiry::new(BTreeSet::new());
    expiry.handle_certificates(vec![ends(1, 1000), ends(2, 960), ends(3, 1001)], day(900));
    let ending =
        |on: u64| -> Vec<Option<i64>> { expiry.ending(day(on)).into_iter().map(|of| of.days_left).collect() };
    assert_eq!(ending(900), []);
    assert_eq!(ending(970), [Some(-10), Some(30)]);
    assert_eq!(ending(1001), [Some(-41), Some(-1), Some(0)]);
}

#[test]
fn what_earlier_runs_told_is_known_from_the_log() {
    let mut expiry = Expiry::new(BTreeSet::new());
    let notices = expiry.handle_certificates(vec![ends(1, 1000)], day(990));
    let note = notices[0].note(true);
    let record = EventRecord {
        seq: 1,
        time: day(990),
        monotonic_ms: 0,
        node: "arr1".to_owned(),
        kind: note.kind.to_owned(),
        warning: note.warning,
        about: None,
        text: note.text,
        count: 1,
        missed: 0,
        details: note.details,
    };
    let told = told(&[record]);
    assert_eq!(told, [(Fingerprint([1; 32]), Stage::Fortnight)].into());
    assert_eq!(Expiry::new(told).handle_certificates(vec![ends(1, 1000)], day(991)), []);
}

#[test]
fn the_event_says_when_and_what_to_do_and_which_servers_need_the_same() {
    let exchange = ServedCertificate { same_on: vec!["exchange".to_owned()], ..ends(1, 1000) };
    let text = |served: &ServedCertificate, now: u64, shared: bool| {
        Notice { stage: Stage::Days, certificate: CertificateEntry::of(served, day(now)) }.note(shared).text
    };
    assert_eq!(
        text(&exchange, 997, true),
        "the certificate of site1.example.test (sha256:010101010101..) expires in 3 days, at 1972-09-27T00:00:00.000Z; \
         replace it on all nodes: rollcall certificate set site1.example.test FILE; the servers of exchange need the same one, \
         or Extended Protection (same-certificate) ends logons there"
    );
    let over = text(&ends(1, 1000), 1001, false);
    assert!(over.contains("has expired: clients warn or refuse since 1972-09-27"), "{over}");
    assert!(
        over.ends_with("put a new one in place of /root/mail.pfx on every node, then rollcall reload"),
        "{over}"
    );
}

proptest! {
    /// Whatever the clock does and whichever certificates come and go.
    #[test]
    fn no_stage_of_a_certificate_is_told_twice(steps in proptest::collection::vec((0..4_u8, 0..2000_u64), 1..60)) {
        let mut expiry = Expiry::new(BTreeSet::new());
        let mut told = BTreeSet::new();
        for (what, on) in steps {
            let notices = match what {
                0 => expiry.handle_certificates(vec![ends(1, 1000)], day(on)),
                1 => expiry.handle_certificates(vec![ends(1, 1000), ends(2, 1010)], day(on)),
                _ => expiry.handle_timeout(day(on)),
            };
            for notice in notices {
                prop_assert!(told.insert((notice.certificate.fingerprint.clone(), notice.stage)), "{notice:?}");
            }
            prop_assert!(expiry.poll_timeout().is_none_or(|next| next > expiry.looked));
        }
    }
}
