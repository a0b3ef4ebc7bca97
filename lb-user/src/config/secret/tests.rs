//! What a secret file says, and what derives from it.

use super::*;

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[test]
fn keys_differ_by_purpose_sender_and_session() {
    let secret = ClusterSecret::parse(SECRET).unwrap();
    let a = secret.heartbeat_key(1, &[0; 16]);
    assert_ne!(a, secret.heartbeat_key(2, &[0; 16]));
    assert_ne!(a, secret.heartbeat_key(1, &[1; 16]));
    assert_eq!(a, secret.heartbeat_key(1, &[0; 16]));
}

/// 64 digits `digit`.
fn line(digit: char) -> String {
    String::from(digit).repeat(64)
}

fn secret(lines: &[&str]) -> ClusterSecret {
    ClusterSecret::parse(&lines.join("\n")).unwrap()
}

/// HKDF-SHA256 by another implementation (Python's hmac).
#[test]
fn one_key_derives_what_it_always_did() {
    let secret = secret(&[SECRET]);
    assert_eq!(secret.hash_seed(), [0x4319_0bb9_9861_13fd, 0x7629_e851_489b_4d99]);
    assert_eq!(secret.heartbeat_key(1, &[0; 16])[..8], [0x81, 0xa6, 0x74, 0x31, 0x8e, 0xe3, 0x2c, 0xd2]);
    let tickets = serde_json::to_string(&secret.ticket_secrets()).unwrap();
    assert!(tickets.starts_with("[[8,231,236,148,247,233,214,222,"), "{tickets}");
}

#[test]
fn the_first_key_seals_and_all_are_accepted() {
    let (a, b) = (line('a'), line('b'));
    let [of_a, of_b] = [&a, &b].map(|key| secret(&[key]).heartbeat_key(1, &[7; 16]));
    let both = secret(&[&a, &b, &format!("seed {a}")]);
    assert_eq!(both.heartbeat_key(1, &[7; 16]), of_a);
    assert_eq!(both.heartbeat_keys(1, &[7; 16]).collect::<Vec<_>>(), [of_a, of_b]);
    let tickets = [&a, &b].map(|key| secret(&[key]).ticket_secrets()).concat();
    assert_eq!(both.ticket_secrets(), tickets);
    assert_ne!(tickets[0], tickets[1]);
}

#[test]
fn the_flow_hash_stays_while_keys_change_because_several_need_a_seed() {
    let [old, new] = [line('a'), line('b')];
    let seed = format!("seed {old}");
    let before = secret(&[&old]).hash_seed();
    for keys in [[&new, &old], [&old, &new]] {
        let text = format!("{}\n{}", keys[0], keys[1]);
        assert_eq!(ClusterSecret::parse(&text).err(), Some(MalformedSecret::NoSeed));
    }
    // The steps in which a key is changed.
    for step in [&[&old, &new, &seed][..], &[&new, &old, &seed], &[&new, &seed]] {
        let lines: Vec<&str> = step.iter().map(|line| line.as_str()).collect();
        assert_eq!(secret(&lines).hash_seed(), before, "{lines:?}");
    }
}

#[test]
fn a_seed_alone_is_accepted_for_no_heartbeat() {
    let secret = secret(&[&format!("seed {}", line('a')), &line('b')]);
    assert_eq!(secret.heartbeat_keys(1, &[7; 16]).count(), 1);
}

#[test]
fn comments_and_empty_lines_do_not_count() {
    let text = format!("# 2026\n\n  {SECRET} \r\n#{}\n", line('x'));
    assert_eq!(secret(&[&text]).hash_seed(), secret(&[SECRET]).hash_seed());
}

#[test]
fn what_is_no_secret_is_told_with_its_line() {
    let key = line('a');
    let lines = |lines: &[&str]| lines.join("\n");
    let (seed, previous) = (format!("seed {key}"), format!("previous {key}"));
    for (text, expected) in [
        (String::new(), MalformedSecret::NoKey),
        (seed.clone(), MalformedSecret::NoKey),
        ("00".to_owned(), MalformedSecret::Line { line: 1 }),
        (SECRET[1..].to_owned(), MalformedSecret::Line { line: 1 }),
        (format!("{SECRET}00"), MalformedSecret::Line { line: 1 }),
        (SECRET.replace('f', "g"), MalformedSecret::Line { line: 1 }),
        (SECRET.replacen("00", "+0", 1), MalformedSecret::Line { line: 1 }),
        ("é".repeat(32), MalformedSecret::Line { line: 1 }),
        (lines(&[&key, "", "seed"]), MalformedSecret::Line { line: 3 }),
        (lines(&[&key, &format!("{key} {key}")]), MalformedSecret::Line { line: 2 }),
        (lines(&[&key, &format!("{seed} {key}")]), MalformedSecret::Line { line: 2 }),
        (lines(&[&key, &key, &key, &key]), MalformedSecret::TooManyKeys { line: 4 }),
        (lines(&[&seed, &key, &seed]), MalformedSecret::SecondSeed { line: 3 }),
        (lines(&[&key, &previous, &previous]), MalformedSecret::SecondPrevious { line: 3 }),
        (lines(&[&key, "previous"]), MalformedSecret::Line { line: 2 }),
        (format!("{key}\n{}", "#".repeat(MAX_BYTES)), MalformedSecret::TooLong),
    ] {
        assert_eq!(ClusterSecret::parse(&text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn the_next_secret_seals_otherwise_and_leaves_clients_where_they_are() {
    let of = |text: &str| ClusterSecret::parse(text).unwrap();
    let texts: Vec<String> = std::iter::successors(Some(line('a')), |text| {
        let key = [u8::try_from(text.len() % 251).unwrap(); 32];
        Some(ClusterSecret::successor(text, &key).unwrap())
    })
    .take(3)
    .collect();
    for pair in texts.windows(2) {
        let (before, now) = (of(&pair[0]), of(&pair[1]));
        assert_eq!(now.hash_seed(), before.hash_seed());
        assert_eq!(now.affinity_keys()[1], before.affinity_keys()[0], "cookies of before");
        assert_ne!(now.key_id(), before.key_id());
        let (keys, old) = (now.heartbeat_keys(1, &[7; 16]), before.heartbeat_key(1, &[7; 16]));
        assert!(keys.into_iter().all(|key| key != old), "{pair:?}");
        assert!(!now.ticket_secrets().contains(&before.ticket_secrets()[0]));
        assert!(!now.is(&before));
    }
    assert_eq!(of(&texts[2]).affinity_keys().len(), 2, "of the last one alone");
    assert_eq!(ClusterSecret::successor("seed", &[1; 32]), Err(MalformedSecret::Line { line: 1 }));
}
