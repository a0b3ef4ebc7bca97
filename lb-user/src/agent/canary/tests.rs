use proptest::prelude::*;

use super::*;

fn tally(ended: u64, server_errors: u64, denied: u64, broken: u64) -> Tally {
    Tally { ended, server_errors, denied, broken }
}

#[test]
fn a_rate_that_is_higher_by_more_than_chance_is_worse_and_a_trifle_is_not() {
    let usual = tally(400, 2, 8, 0);
    for (here, worse) in [
        (tally(400, 2, 8, 0), false),
        (tally(400, 6, 14, 3), false),
        (tally(400, 60, 8, 0), true),
        (tally(400, 2, 400, 0), true),
        (tally(20, 0, 20, 0), true),
        (tally(400, 2, 8, 40), true),
        (tally(400, 0, 0, 0), false),
        // Very unlikely, and seven requests.
        (tally(12, 7, 0, 0), false),
        (tally(12, 8, 0, 0), true),
    ] {
        let compared = compare(here, usual);
        assert_eq!(matches!(compared, Comparison::Worse(_)), worse, "{here:?}: {compared:?}");
    }
    assert_eq!(
        compare(tally(11, 0, 11, 0), tally(11, 0, 0, 0)),
        Comparison::Worse(vec![
            "11 of 11 requests were answered with 403 or 404, and 0 of 11 elsewhere".to_owned()
        ])
    );
    assert_eq!(compare(tally(10, 10, 0, 0), usual), Comparison::TooFew);
    assert_eq!(compare(usual, tally(10, 0, 0, 0)), Comparison::TooFew);
    // Half a percent more of very many is no chance, and a trifle.
    assert_eq!(compare(tally(1_000_000, 5_000, 0, 0), tally(1_000_000, 0, 0, 0)), Comparison::Alike);
}

#[test]
fn counts_that_no_proxy_can_have_counted_are_borne() {
    let most = tally(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    assert_eq!(compare(most, most), Comparison::Alike);
    assert_eq!([most, most].into_iter().sum::<Tally>(), most);
}

#[test]
fn a_proxy_that_was_started_anew_between_two_looks_is_not_compared() {
    assert_eq!(tally(12, 1, 3, 1).since(tally(9, 1, 1, 1)), Some(tally(3, 0, 2, 0)));
    assert_eq!(tally(3, 0, 0, 0).since(tally(9, 1, 1, 1)), None);
}

#[test]
fn what_was_not_well_before_is_a_remark_and_a_certificate_has_no_before() {
    let page = |path: &str| Probe::Page {
        at: "192.168.50.8:443".parse().unwrap(),
        host: "mail.example.test".to_owned(),
        path: path.to_owned(),
    };
    let certificate = Probe::Certificate {
        at: "192.168.50.8:443".parse().unwrap(),
        host: "mail.example.test".to_owned(),
        fingerprint: Fingerprint::of(b"another"),
    };
    let bad = || Err("answered 403".to_owned());
    let probes = [certificate, page("/a"), page("/b"), page("/c")];
    let found = findings(&probes, &[bad(), Ok(()), bad(), bad()], &[bad(), bad(), bad(), Ok(())]);
    assert_eq!(
        found,
        Findings {
            worse: vec![
                "a handshake with mail.example.test at 192.168.50.8:443: answered 403".to_owned(),
                "https://mail.example.test/a: answered 403".to_owned()
            ],
            remarks: vec!["https://mail.example.test/b: answered 403".to_owned()],
            asked: 4,
        }
    );
    let many: Vec<Probe> = (0..20).map(|number| page(&format!("/{number}"))).collect();
    let found = findings(&many, &vec![Ok(()); 20], &vec![bad(); 20]);
    assert_eq!((found.worse.len(), found.worse[MOST_TOLD].as_str()), (MOST_TOLD + 1, "and 12 more"));
}

proptest! {
    #[test]
    fn who_does_as_well_as_the_others_is_never_worse(
        ended in 1_u64..1 << 40, bad in 0_u64..1 << 40, times in 1_u64..1000
    ) {
        let bad = bad % (ended + 1);
        let here = tally(ended, bad, bad, bad);
        let elsewhere = tally(ended * times, bad * times, bad * times, bad * times);
        prop_assert!(!matches!(compare(here, elsewhere), Comparison::Worse(_)));
    }
}
