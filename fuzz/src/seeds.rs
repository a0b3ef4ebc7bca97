//! Writes what the fuzzers begin with, a folder for each: frames of each kind, in some worlds; logons of each kind;
//! paths; rules; what is ambiguous as HTTP/1; a ClientHello; configurations; what nodes send each other, and share; files of IIS. `seeds FOLDER`.

#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod config;

#[path = "../../lb-user/tests/framing/corpus/mod.rs"]
#[allow(dead_code, reason = "the tests' own cases, of which the seeds need the bytes alone")]
mod corpus;
#[path = "../../tests/tests/verdicts/frames.rs"]
#[allow(dead_code, reason = "the tests' own builders, of which the seeds need some")]
mod frames;
mod library;
#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod proxy;
#[allow(dead_code, reason = "the seeds need no more than its addresses")]
mod world;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use lb_common::packet::protocol;
use lb_common::verdict::HEARING_TEST;

use crate::config::secret::ClusterSecret;
use crate::frames::*;
use crate::library::shared::generation::{Content, Generation, Saying};
use crate::library::shared::history::Inventory;
use crate::library::shared::keys::{NodeKeys, Seed};
use crate::library::shared::message::{Application, Question, Reply};
use crate::library::shared::portable::{Passphrase, Portable};
use crate::library::shared::record::{Record, SignedRecord, Word};
use crate::library::shared::sealed::{Bytes, Secrets};
use crate::library::shared::token::{ClusterId, Newcomer, Token};
use crate::world::HEARING_PORT;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or_else(|| io::Error::other("no folder is named"))?);
    write_frames(&folder.join("packet"))?;
    write_logons(&folder.join("credentials"))?;
    write(&folder.join("path"), &PATHS)?;
    write(&folder.join("rules"), &RULES)?;
    write_messages(&folder.join("http1"))?;
    write(&folder.join("peer_frames"), &FRAMES)?;
    write_files(&folder.join("iis_xml"))?;
    write_configurations(&folder.join("config_toml"))?;
    write_shared(&folder)?;
    fs::create_dir_all(folder.join("sni"))?;
    fs::write(folder.join("sni/hello"), hello())
}

/// Flags, the length of pieces, and a message with another one behind it.
fn write_messages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let requests = corpus::requests().into_iter().map(|case| (0, case.bytes));
    let responses = corpus::responses::responses().into_iter();
    let responses = responses.map(|case| (if case.method == "HEAD" { 3 } else { 2 }, case.answer.bytes));
    for (number, (flags, message)) in requests.chain(responses).enumerate() {
        let seed = [&[flags, 7], &message[..], corpus::CANARY.as_bytes()].concat();
        fs::write(folder.join(number.to_string()), seed)?;
    }
    Ok(())
}

/// The files of the import's own tests.
fn write_files(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-user/tests/iis");
    for test in fs::read_dir(tests)? {
        let test = test?;
        fs::copy(test.path().join("applicationHost.config"), folder.join(test.file_name()))?;
    }
    Ok(())
}

/// Each in UTF-8, and in UTF-16 as Windows writes it.
fn write_configurations(folder: &Path) -> io::Result<()> {
    write(folder, &CONFIGURATIONS)?;
    CONFIGURATIONS.iter().enumerate().try_for_each(|(number, text)| {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        fs::write(folder.join(format!("{number}-utf16")), bytes)
    })
}

fn write(folder: &Path, seeds: &[&str]) -> io::Result<()> {
    write_bytes(folder, seeds.iter().map(|seed| seed.as_bytes().to_vec()))
}

fn write_bytes(folder: &Path, seeds: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let seeds = seeds.into_iter().enumerate();
    seeds.into_iter().try_for_each(|(number, seed)| fs::write(folder.join(number.to_string()), seed))
}

/// A cluster's first two generations, each whole, without its content, and its header's text; a record and its text; all questions and
/// replies; a token; and a file of all of it, what is sealed in it, and what is under its passphrase.
fn write_shared(folder: &Path) -> io::Result<()> {
    let keys = NodeKeys::new(Seed([1; 32]), Seed([2; 32]));
    let first = generation(None, &keys);
    let next = generation(Some(&first), &keys);
    let record = Record {
        generation: next.id(),
        word: Word::InForce,
        by: "arr1".to_owned(),
        time: 1,
        why: "it is sound".to_owned(),
    };
    let record = SignedRecord::new(record, &keys);
    let of = |it: &Generation| [it.encode(), it.head.encode(), line(&it.head.encode(), 2)];
    write_bytes(&folder.join("generation"), [&first, &next].into_iter().flat_map(of))?;
    write_bytes(&folder.join("record"), [record.encode(), line(&record.encode(), 2)])?;
    let token = Token::new(ClusterId::of(&ClusterSecret), keys.public().transport, 1000, Seed([3; 32]));
    write(&folder.join("token"), &[&token.word(), token.word().trim_start_matches("rollcall-join-")])?;
    write_bytes(&folder.join("message"), messages(&next, &record, &token, &keys))?;
    write_bytes(&folder.join("portable"), portables(&next)?)
}

fn generation(parent: Option<&Generation>, keys: &NodeKeys) -> Generation {
    let saying = Saying {
        author: "arr1".to_owned(),
        time: 1,
        comment: "a change".to_owned(),
        restores: parent.map(Generation::id),
        roster: [("arr1".to_owned(), keys.public())].into(),
    };
    let content =
        Content { text: "[cluster]\nip = \"192.168.50.8/24\"\n".to_owned(), sealed: vec![0xfe; 40] };
    Generation::new(parent.map(|parent| &parent.head), saying, content, keys)
}

fn messages(of: &Generation, said: &SignedRecord, token: &Token, keys: &NodeKeys) -> Vec<Vec<u8>> {
    let newcomer = Newcomer {
        name: "arr2".to_owned(),
        address: [192, 168, 50, 7].into(),
        priority: Some(2),
        keys: keys.public(),
    };
    let proof = token.prove(&newcomer);
    let inventory = Inventory { generations: [(of.id(), true)].into(), records: [said.id()].into() };
    let pieces = vec![of.head.encode(), said.encode()];
    let questions = [
        Question::Inventory,
        Question::Generations(vec![of.id(); 2]),
        Question::Records(vec![said.id()]),
        Question::Check(of.head.encode()),
        Question::Forget(of.id()),
        Question::Take { generations: pieces.clone(), records: vec![said.encode()] },
        Question::Join(Box::new(Application { newcomer, proof })),
    ];
    let replies = [
        Reply::Inventory(inventory),
        Reply::Pieces(pieces),
        Reply::Sound,
        Reply::Taken,
        Reply::Refused("arr2: no".to_owned()),
        Reply::Welcome { generation: of.head.encode(), record: said.encode() },
    ];
    questions.iter().map(Question::encode).chain(replies.iter().map(Reply::encode)).collect()
}

fn portables(of: &Generation) -> io::Result<[Vec<u8>; 3]> {
    let files = [("/etc/mail.pem".to_owned(), Bytes(b"a key".to_vec()))].into();
    let portable = Portable {
        generation: of.id(),
        height: 2,
        by: "arr1".to_owned(),
        time: 1,
        text: of.content.text.clone(),
        secrets: Secrets { cluster: "07".repeat(32), epoch: 1, files },
    };
    let passphrase = Passphrase::new("any".to_owned()).ok_or_else(|| io::Error::other("no passphrase"))?;
    let file = portable.seal(&passphrase, 1).map_err(io::Error::other)?;
    let lines = file.split_inclusive(|byte| *byte == b'\n').take(3).map(<[u8]>::len).sum();
    let sealed = file[lines..].to_vec();
    Ok([file, sealed, serde_json::to_vec(&portable)?])
}

/// A line of what was written, without its end.
fn line(bytes: &[u8], number: usize) -> Vec<u8> {
    bytes.split(|byte| *byte == b'\n').nth(number).unwrap_or_default().to_vec()
}

/// Where it is cut, then a ClientHello of one record with one name and an empty extension.
fn hello() -> Vec<u8> {
    let extensions = b"\0\0\0\x0b\0\x09\0\0\x06a.test\0\x17\0\0";
    let body = [&[3; 34][..], b"\0\0\x02\x13\x01\x01\0\0\x13", extensions].concat();
    [b"\x80\x16\x03\x01\0\x42\x01\0\0\x3e", &body[..]].concat()
}

fn write_frames(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut frames = Vec::new();
    for (client, vip) in
        [([203, 0, 113, 10].into(), world::VIP4.into()), ([0xfd; 16].into(), world::VIP6.into())]
    {
        frames.extend(frames_of(Pair { client, vip }));
    }
    frames.extend(link_frames());
    // A world of each kind: no tags, one, two; a default host, observing, no lease; every state, every socket.
    let worlds = [[0, 1, 0], [4, 4, 1], [1, 2, 4], [2, 3, 5], [16, 1, 6], [20, 2, 2], [8, 1, 3]];
    for (number, frame) in frames.iter().enumerate() {
        for [flags, state, socket] in worlds {
            let tags: &[u16] = match flags & 3 {
                0 => &[],
                1 => &[7],
                _ => &[5, 7],
            };
            let input = [&[flags, state, socket][..], &tagged(frame, tags)].concat();
            fs::write(folder.join(format!("{number:03}-{flags:02x}{state:02x}{socket:02x}")), input)?;
        }
    }
    Ok(())
}

fn frames_of(pair: Pair) -> Vec<Vec<u8>> {
    let segment = tcp(443, 40_000, ACK, 1);
    let behind = |headers: &[(u8, Vec<u8>)]| {
        let (next, payload) = extended(headers, protocol::TCP, &tcp(40_000, 443, SYN, 0));
        if pair.is_v6() { pair.frame(next, &payload) } else { pair.tcp(40_000, 443, SYN) }
    };
    let hearing = udp(HEARING_PORT, HEARING_PORT, &[&HEARING_TEST[..], &[2]].concat());
    let mut frames: Vec<Vec<u8>> =
        [SYN, ACK, PSH | ACK, FIN | ACK, RST].map(|flags| pair.tcp(40_000, 443, flags)).to_vec();
    frames.extend([143, 8443, 23, 22].map(|port| pair.tcp(40_000, port, SYN)));
    frames.extend([443, 53, 23, 22].map(|port| pair.udp(40_000, port)));
    frames.extend([
        pair.frame(protocol::UDP, &hearing),
        pair.echo(),
        pair.frame(GRE, &[0; 8]),
        pair.too_big(&pair.answer(protocol::TCP, &segment)),
        pair.too_big(&pair.answer(protocol::UDP, &udp(443, 40_000, b"quic"))),
        pair.too_big(&pair.answer(GRE, &[0; 8])),
        pair.icmp(13, &[0; 12]),
        behind(&[(HOP_BY_HOP, options(0)), (ROUTING, options(2)), (DESTINATION, options(1))]),
        behind(&[(FRAGMENT, fragment_header(0, true))]),
        behind(&[(FRAGMENT, fragment_header(9, true))]),
        behind(&vec![(DESTINATION, options(0)); 7]),
    ]);
    frames
}

fn link_frames() -> Vec<Vec<u8>> {
    let (vip4, vip6) = (IpAddr::from(world::VIP4), IpAddr::from(world::VIP6));
    let (router4, router6) = (IpAddr::from([192, 168, 50, 1]), IpAddr::from([0xfe; 16]));
    let nobody = IpAddr::from([0; 16]);
    let fragment = patched(Pair { client: router4, vip: vip4 }.tcp(1, 443, ACK), 20, &[0, 9]);
    vec![
        arp(1, router4, vip4),
        arp(2, router4, vip4),
        arp_from(CLUSTER_MAC, 1, vip4, vip4),
        solicitation(router6, group_of(vip6), vip6, &[]),
        solicitation(router6, vip6, vip6, &SOURCE_MAC_OPTION),
        solicitation(nobody, group_of(vip6), vip6, &[]),
        fragment,
        ethernet(CLUSTER_MAC, 0x88cc, &[0; 46]),
    ]
}

fn write_logons(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let element = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
    let response = |token: &[u8]| {
        let token = element(0xa2, &element(0x04, token));
        element(0xa1, &element(0x30, &[element(0xa0, &[0x0a, 1, 1]), token].concat()))
    };
    let init = |token: &[u8]| {
        let mechanisms = element(0xa0, &element(0x30, b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a"));
        let token = element(0xa2, &element(0x04, token));
        let init = element(0xa0, &element(0x30, &[mechanisms, token].concat()));
        element(0x60, &[&b"\x06\x06\x2b\x06\x01\x05\x05\x02"[..], &init].concat())
    };
    let ticket = element(0x60, b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\0\x6e\0");
    let first = b"NTLMSSP\0\x01\0\0\0\x07\x82\x08\xa2";
    let seeds = [
        b"EXAMPLE\\ann:secret".to_vec(),
        b"Basic YW5uOnNlY3JldA==".to_vec(),
        b"destination=x&flags=4&username=ann%40example.test&password=x".to_vec(),
        first.to_vec(),
        init(first),
        ntlm(1, b"E\0X\0", b"a\0n\0n\0"),
        ntlm(2, b"EX", b"ann"),
        ntlm(1, b"", b""),
        response(&ntlm(1, b"E\0X\0", b"a\0n\0n\0")),
        init(&ticket),
        ticket,
    ];
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("{number:03}")), seed)?;
    }
    Ok(())
}

/// AUTHENTICATE_MESSAGE without responses (MS-NLMP, section 2.2.1.3).
fn ntlm(flags: u32, domain: &[u8], user: &[u8]) -> Vec<u8> {
    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    let mut offset = 64_u32;
    for text in [b"", b"", domain, user, b"", b""] {
        let length = text.len() as u16;
        message.extend([length.to_le_bytes(), length.to_le_bytes()].concat());
        message.extend(offset.to_le_bytes());
        offset += u32::from(length);
    }
    message.extend(flags.to_le_bytes());
    message.extend([domain, user].concat());
    message
}

/// The length of pieces, then frames: a question and a sign of life; one of each kind; the head of one of 17 MiB.
const FRAMES: [&str; 3] = [
    "\u{3}\0\0\0\u{e}\u{1}\0\0\0\0\0\0\0\u{7}hello\0\0\0\u{9}\u{5}\0\0\0\0\0\0\0\u{1}",
    "\u{40}\0\0\0\u{a}\u{2}\0\0\0\0\0\0\0\u{7}x\0\0\0\u{9}\u{3}\0\0\0\0\0\0\0\u{1}\0\0\0\u{9}\u{6}\0\0\0\0\0\0\0\u{1}",
    "\u{1}\u{1}\u{10}\0\u{9}\u{1}\0\0\0\0\0\0\0\u{7}",
];

const PATHS: [&str; 6] = [
    "/owa/auth/15.1.2507/themes/resources/logon.css",
    "/autodiscover/autodiscover.json/v1.0/a%40b?Email=a%40b",
    "/owa/%2e%2e/ecp/./x//y/..;a=b/%2f%5c",
    "/owa/r%c3%a9sum%C3%A9/%252e/%u0041/%25/%00",
    "/owa/.../..%20/%c0%ae/\\#",
    "//x/..//..",
];

const RULES: [&str; 5] = [
    "\u{1}/owa/x?y\nz\n^(owa)/(.*)\n{QUERY_STRING}\n(.+)\nhttps://farm/{R:2}?{C:1}",
    "\u{5}/owa/x?y\nz\n*/*\n{HTTPS}\nOn\nhttps://farm/{ToLower:{R:0}}",
    "\u{9}/Autodiscover/?PowerShell\nz\n(?=.*a)(?!b)\n{UrlDecode:{REQUEST_URI}}\n(?=.*autodiscover)(?=.*powershell)\n{UrlEncode:{URL}}",
    "\u{1}/aab\nz\n(?:(a+)|b)*?\\1$\n{HTTP_X}\n[^\\W\\d-]{1,3}\\b\n{CACHE_URL}",
    "\u{3}/a%3f%25\n%0d\n(?<n>.)\\k<n>|[^]\\x41\\u00e9\n{UNENCODED_URL}\n^$\n/x/{HtmlEncode:{HTTP_X}}#y",
];

const CONFIGURATIONS: [&str; 4] = [
    "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"igmp\"\n[[node]]\nname = \"a\"\naddress = \"192.168.50.6\"\npriority = 1\n\
     [[rule]]\nports = \"1-9\"\nweights = { a = 3 }\ncheck = { tcp = true }\n",
    "cluster = {}\n[exchange]\nnames = [\"a.test\"]\ncertificate = '/a'\nservers = [\"10.0.0.1\", { address = \"10.0.0.2\" }]\n\
     rate = { requests = 1, per = \"1s\" }\necp = [\"::/0\"]\n[exchange.tests.ews]\nstatus = 200\n",
    "name = \"a\"\ninterface = \"eth0\"\nvlans = [1]\nxdp = 5\n",
    "[cluster]\nnme = 1\r\nmode = \"\\\\s\\x\"\n[[node]\nx = [1,\n",
];
