//! What is put into etcd is there, with TLS, certificates, passwords and a prefix; and what becomes of it.

use lb_user::etcd::key::PART;
use lb_user::etcd::request::Request;
use lb_user::shared::exchange::Listing;
use lb_user::shared::generation::{GenerationId, MAX_BYTES};
use lb_user::shared::record::RecordId;

use crate::member::{Member, PREFIX, Talking};

fn id(number: u8) -> GenerationId {
    GenerationId::from_bytes([number; 32])
}

fn record(number: u8) -> RecordId {
    RecordId::from_bytes([number; 32])
}

/// Bytes that are no text and do not repeat where parts are cut.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

fn put(number: u8, content: Option<Vec<u8>>) -> Request {
    Request::Put { id: id(number), head: vec![b'h', number], content }
}

#[tokio::test]
async fn what_one_puts_there_another_finds_and_nothing_is_outside_the_prefix() {
    let member = Member::guarded();
    let (one, other) = (Talking::to(member.settings()), Talking::to(member.settings()));
    assert_eq!(one.list().await, Listing::default());
    let long = content(3 * PART + PART / 2);
    one.done(put(1, Some(long.clone()))).await;
    one.done(put(2, None)).await;
    one.done(Request::PutRecord { about: id(1), id: record(9), bytes: vec![5] }).await;
    let wanted =
        Listing { generations: [(id(1), true), (id(2), false)].into(), records: [(id(1), record(9))].into() };
    assert_eq!(other.list().await, wanted);
    assert_eq!(other.pieces(Request::Heads(vec![id(2), id(3), id(1)])).await, [vec![b'h', 2], vec![b'h', 1]]);
    assert!(other.pieces(Request::Content(id(1))).await == [long]);
    assert_eq!(other.pieces(Request::Content(id(2))).await, [] as [Vec<u8>; 0]);
    assert_eq!(other.pieces(Request::Records(vec![(id(1), record(9)), (id(1), record(8))])).await, [vec![5]]);
    let keys = member.keys();
    assert_eq!(keys.len(), 4 + 2 + 1);
    assert!(keys.iter().all(|key| key.starts_with(&format!("{PREFIX}/"))), "{keys:?}");
}

#[tokio::test]
async fn the_longest_generation_fits_and_what_is_there_stays_what_it_is() {
    let member = Member::open();
    let talking = Talking::to(member.settings());
    let longest = content(MAX_BYTES);
    talking.done(put(1, Some(longest.clone()))).await;
    // Whoever comes second writes nothing.
    talking.done(put(1, Some(vec![1; MAX_BYTES]))).await;
    talking.done(Request::Put { id: id(1), head: vec![7], content: None }).await;
    assert!(talking.pieces(Request::Content(id(1))).await[0] == longest);
    assert_eq!(talking.pieces(Request::Heads(vec![id(1)])).await, [vec![b'h', 1]]);
}

#[tokio::test]
async fn a_content_of_which_a_part_is_missing_is_not_there() {
    let member = Member::open();
    let talking = Talking::to(member.settings());
    talking.done(put(1, Some(content(2 * PART + 1)))).await;
    member.control(&format!("del {PREFIX}/contents/{}/01-03", id(1)));
    assert_eq!(talking.list().await.generations, [(id(1), false)].into());
    assert_eq!(talking.pieces(Request::Content(id(1))).await, [] as [Vec<u8>; 0]);
    talking.done(put(1, Some(content(2 * PART + 1)))).await;
    assert_eq!(talking.list().await.generations, [(id(1), true)].into());
}

#[tokio::test]
async fn what_is_let_go_of_is_deleted_and_nothing_else() {
    let member = Member::guarded();
    let talking = Talking::to(member.settings());
    for number in 1..=3 {
        talking.done(put(number, Some(content(PART + 1)))).await;
        talking.done(Request::PutRecord { about: id(number), id: record(9), bytes: vec![5] }).await;
    }
    talking.done(Request::LetGo { contents: vec![id(1)], generations: vec![id(2), id(7)] }).await;
    let listing = talking.list().await;
    assert_eq!(listing.generations, [(id(1), false), (id(3), true)].into());
    assert_eq!(listing.records, [(id(1), record(9)), (id(3), record(9))].into());
    assert_eq!(member.keys().len(), 2 + 2 + 2);
}

#[tokio::test]
async fn more_keys_than_a_page_holds_are_all_seen_and_what_is_none_of_ours_is_not() {
    let member = Member::open();
    let talking = Talking::to(member.settings());
    for key in ["/clusters/dmz", "/clusters/dmz2/generations/x", "/clusters/dmz/generations/x", "/a"] {
        member.control(&format!("put {key} x"));
    }
    let names = (0..2100_u32).map(|number| {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        GenerationId::from_bytes(name)
    });
    for id in names.clone() {
        talking.done(Request::Put { id, head: vec![1], content: None }).await;
    }
    assert_eq!(talking.list().await.generations, names.map(|id| (id, false)).collect());
}

#[tokio::test]
async fn a_change_by_another_is_news() {
    let member = Member::guarded();
    let (one, other) = (Talking::to(member.settings()), Talking::to(member.settings()));
    other.answers().await;
    other.news().await;
    // A part of a content is longer than what is kept of a line.
    one.done(put(1, Some(content(PART)))).await;
    other.news().await;
    one.done(Request::LetGo { contents: vec![id(1)], generations: Vec::new() }).await;
    other.news().await;
}
