//! Lines in both formats, of usual and of hostile requests.

use proptest::prelude::*;

use super::*;

fn head(text: &str) -> Head {
    let mut head = Head::default();
    head.read_request(text.as_bytes(), &Default::default()).unwrap();
    head
}

const OWA: &str = "GET /owa/?ae=Item&X-OWA-CANARY=geheim HTTP/1.1\r\nHost: mail.example.test\r\nUser-Agent: Mozilla/5.0 (X11)\r\n\
    Referer: https://mail.example.test/owa/?token=geheim\r\nCookie: cadata=geheim\r\nAuthorization: Basic geheim\r\n\r\n";

fn outcome() -> Outcome {
    Outcome {
        status: 200,
        whole: true,
        pinned: true,
        connect: Some(Duration::from_micros(412)),
        greet: Some(Duration::from_micros(1_034)),
        first_byte: Some(Duration::from_micros(7_200)),
        took: Duration::from_micros(12_345),
        received: 10,
        sent: 2048,
        ..Outcome::default()
    }
}

fn entry(asked: Asked<'_>, outcome: Outcome) -> Entry<'_> {
    Entry {
        time: WallTime::from_unix_ms(1_795_523_467_042),
        client: "203.0.113.5".parse().unwrap(),
        local: "192.168.50.8:443".parse().unwrap(),
        tls: Some(TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384", resumed: false }),
        asked,
        names: Names { site: "mail.example.test", route: "/owa", farm: "exchange", server: "sbex1" },
        outcome,
        why: "",
    }
}

fn asked<'a>(head: &'a Head, host: &'a str) -> Asked<'a> {
    Asked::Request { id: RequestId::new(0x5f0c, 0x1a2), head, host, user: b"EXAMPLE\\ann" }
}

fn json_line(entry: &Entry<'_>, query: Query) -> String {
    let mut line = Vec::new();
    json::line(entry, query, &mut line);
    String::from_utf8(line).unwrap()
}

fn w3c_line(entry: &Entry<'_>, query: Query) -> String {
    let mut line = Vec::new();
    w3c::line(entry, query, &mut line);
    String::from_utf8(line).unwrap()
}

/// The values of a W3C line by their names.
fn by_name(line: &str) -> Vec<(String, String)> {
    let mut header = Vec::new();
    w3c::header(WallTime::default(), &mut header);
    let header = String::from_utf8(header).unwrap();
    let fields = header.lines().find_map(|line| line.strip_prefix("#Fields: ")).unwrap();
    let (fields, values): (Vec<_>, Vec<_>) = (fields.split(' ').collect(), line.split(' ').collect());
    assert_eq!(fields.len(), values.len(), "{line}");
    fields.into_iter().zip(values).map(|(field, value)| (field.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_line_says_who_asked_for_what_and_what_came_of_it() {
    let head = head(OWA);
    let entry = entry(asked(&head, "mail.example.test"), outcome());
    assert_eq!(
        json_line(&entry, Query::Masked),
        "{\"time\":\"2026-11-24T12:31:07.042Z\",\"id\":\"0000000000005f0c-1a2\",\"client\":\"203.0.113.5\",\
         \"address\":\"192.168.50.8\",\"port\":443,\"tls\":\"TLSv1.3\",\"cipher\":\"TLS_AES_256_GCM_SHA384\",\
         \"resumed\":false,\"host\":\"mail.example.test\",\"method\":\"GET\",\"path\":\"/owa/\",\
         \"query\":\"ae=Item&X-OWA-CANARY=***\",\"version\":\"HTTP/1.1\",\"user\":\"EXAMPLE\\\\ann\",\
         \"agent\":\"Mozilla/5.0 (X11)\",\"referrer\":\"https://mail.example.test/owa/?token=***\",\
         \"site\":\"mail.example.test\",\"route\":\"/owa\",\"farm\":\"exchange\",\"server\":\"sbex1\",\"status\":200,\
         \"pinned\":true,\"connect_ms\":0.412,\"tls_ms\":1.034,\"first_byte_ms\":7.200,\"total_ms\":12.345,\
         \"received\":10,\"sent\":2048,\"whole\":true}"
    );
    assert_eq!(
        w3c_line(&entry, Query::Masked),
        "2026-11-24 12:31:07 192.168.50.8 GET /owa/ ae=Item&X-OWA-CANARY=*** 443 EXAMPLE\\ann 203.0.113.5 \
         Mozilla/5.0+(X11) https://mail.example.test/owa/?token=*** 200 0 0 12 mail.example.test HTTP/1.1 2048 10 \
         0000000000005f0c-1a2 mail.example.test /owa exchange sbex1 1 - - 1 0 1 7 TLSv1.3 TLS_AES_256_GCM_SHA384 0 -"
    );
    for line in [json_line(&entry, Query::Off), w3c_line(&entry, Query::Off)] {
        assert!(!line.contains("ae=Item") && !line.contains("token"), "{line}");
    }
}

#[test]
fn of_a_target_with_an_authority_neither_name_nor_password_is_logged() {
    for (target, path) in [
        ("https://ann:geheim@mail.example.test/owa/?a=b", "/owa/"),
        ("https://ann:geheim@mail.example.test?a=b", ""),
        ("HTTP://ann:geheim@mail.example.test", ""),
        ("x:///owa/", "/owa/"),
        ("ann:geheim@mail.example.test:443", "mail.example.test:443"),
        ("https:\\\\ann:geheim@mail.example.test/owa/", "mail.example.test/owa/"),
        ("/owa//ann@example.test://x", "/owa//ann@example.test://x"),
        ("/owa/?url=https://mail.example.test/", "/owa/"),
        ("*", "*"),
    ] {
        let head = head(&format!("GET {target} HTTP/1.1\r\nHost: mail.example.test\r\n\r\n"));
        assert_eq!(split_target(&head).0.escape_ascii().to_string(), path, "{target}");
        let entry = entry(asked(&head, "mail.example.test"), outcome());
        for line in [json_line(&entry, Query::Masked), w3c_line(&entry, Query::Masked)] {
            assert!(!line.contains("geheim"), "{line}");
        }
    }
}

#[test]
fn the_first_fields_are_those_that_iis_writes() {
    let mut header = Vec::new();
    w3c::header(WallTime::from_unix_ms(1_795_523_467_042), &mut header);
    let header = String::from_utf8(header).unwrap();
    let lines: Vec<_> = header.lines().collect();
    let begins = [
        "#Software: Rollcall ",
        "#Version: 1.0",
        "#Date: 2026-11-24 12:31:07",
        // IIS 10's default.
        "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) \
         sc-status sc-substatus sc-win32-status time-taken ",
    ];
    assert_eq!(lines.len(), begins.len());
    for (line, begin) in lines.into_iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
}

#[test]
fn what_there_is_nothing_to_say_of_is_left_out_or_a_dash() {
    let (head, cause, violation) = (Head::default(), Some(Cause::BadRequest), Some(Violation::BareLf));
    let outcome = Outcome { status: 400, cause, violation, ..Outcome::default() };
    let id = RequestId::new(1, 1);
    let mut entry = entry(Asked::Request { id, head: &head, host: "", user: b"" }, outcome);
    (entry.tls, entry.names, entry.why) = (None, Names::default(), "rule \"a\": no");
    assert_eq!(
        json_line(&entry, Query::Masked),
        "{\"time\":\"2026-11-24T12:31:07.042Z\",\"id\":\"0000000000000001-1\",\"client\":\"203.0.113.5\",\
         \"address\":\"192.168.50.8\",\"port\":443,\"status\":400,\"cause\":\"bad_request\",\"violation\":\"BareLf\",\
         \"why\":\"rule \\\"a\\\": no\",\"pinned\":false,\"total_ms\":0.000,\"received\":0,\"sent\":0,\"whole\":false}"
    );
    assert_eq!(
        w3c_line(&entry, Query::Masked),
        "2026-11-24 12:31:07 192.168.50.8 - - - 443 - 203.0.113.5 - - 400 0 64 0 - - 0 0 0000000000000001-1 \
         - - - - 0 bad_request BareLf 0 - - - - - - rule+%22a%22:+no"
    );
    entry.asked = Asked::Tcp { sni: "" };
    entry.outcome.status = 0;
    entry.names = Names { site: "smtp", farm: "smtp", server: "edge1", ..Names::default() };
    by_name(&w3c_line(&entry, Query::Masked));
    let json = json_line(&entry, Query::Masked);
    assert!(json.contains("\"tcp\":\"smtp\",\"farm\":\"smtp\",\"server\":\"edge1\",\"cause\""), "{json}");
    assert!(!json.contains("status") && !json.contains("pinned"), "{json}");
}

/// What a client can put into a field's value: what `http1` lets through.
fn value() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[\t -~\u{80}-\u{ff}\u{2028}\u{1f600}]{0,40}").unwrap()
}

proptest! {
    #[test]
    fn nothing_in_a_request_breaks_its_line(
        target in "/[!-\"$-~]{0,40}",
        agent in value(),
        referrer in value(),
        host in any::<String>(),
        user in proptest::collection::vec(any::<u8>(), 0..30),
        site in any::<String>(),
        why in any::<String>(),
    ) {
        let head = head(&format!(
            "POST {target} HTTP/1.0\r\nUser-Agent: {agent}\r\nReferer: {referrer}\r\nCookie: geheim\r\n\r\n"
        ));
        let id = RequestId::new(7, 9);
        let mut entry = entry(Asked::Request { id, head: &head, host: &host, user: &user }, outcome());
        (entry.names.site, entry.why) = (&site, &why);
        for query in [Query::Masked, Query::Off] {
            let (json, w3c) = (json_line(&entry, query), w3c_line(&entry, query));
            for line in [&json, &w3c] {
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", line);
            }
            // Both read back, and what is not masked says the same as it was sent.
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            let text = |key: &str| read.get(key).map(|value| value.as_str().unwrap().to_owned()).unwrap_or_default();
            prop_assert_eq!(text("agent"), agent.trim_matches([' ', '\t']));
            prop_assert_eq!(text("path"), target.split('?').next().unwrap());
            prop_assert_eq!(text("host"), host.chars().collect::<String>());
            prop_assert_eq!(text("id"), id.to_string());
            prop_assert_eq!(text("why"), why.as_str());
            let fields = by_name(&w3c);
            prop_assert!(fields.contains(&("x-request-id".to_owned(), id.to_string())));
            prop_assert!(fields.contains(&("cs-version".to_owned(), "HTTP/1.0".to_owned())));
            prop_assert!(fields.contains(&("x-tls-version".to_owned(), "TLSv1.3".to_owned())));
        }
    }
}
