//! What becomes of requests: the profile of `[exchange]`, row by row, and what routes and rules of one's own do.

use super::*;
use crate::config::tests::{exchange_profile, site_service};
use crate::proxy::http1::HeadLimits;

/// A request in a line: method, target, client, and a cookie or nothing.
fn decided(policy: &Policy, line: &str) -> String {
    let parts: Vec<&str> = line.splitn(4, ' ').collect();
    let [method, target, client, rest @ ..] = &parts[..] else { panic!("{line}") };
    let cookie = rest.first().map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
    decided_at(policy, "mail.example.test", &format!("{method} {target} {client}"), &cookie)
}

/// Likewise, of a request to `host` with more header fields.
fn decided_at(policy: &Policy, host: &str, line: &str, fields: &str) -> String {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, client] = parts[..] else { panic!("{line}") };
    let mut head = Head::default();
    let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
    let facts = Facts { head: &head, host, target, client: client.parse().unwrap(), port: 443 };
    match policy.decide(facts) {
        Decision::Forward(forward) => {
            let Bounds { silence, total, body } = forward.bounds;
            let total = total.map_or("-".to_owned(), |total| total.as_secs().to_string());
            format!("farm {} silence {} total {total} body {}", forward.farm, silence.as_secs(), body >> 20)
        }
        Decision::Redirect { status, to, .. } => format!("{status} {to}"),
        Decision::Respond { reply: Reply { status, reason, content_type, body, retry_after }, .. } => {
            let retry = retry_after.map_or(String::new(), |time| format!(" again in {}", time.as_secs()));
            format!("{status} {reason} {content_type} {body}{retry}")
        }
        Decision::Refuse { cause, status, why, .. } => format!("{status} {} {why}", cause.as_str()),
        Decision::Abort { rule } => format!("abort {rule}"),
    }
}

/// All that the profile may have, in no order.
const TESTS: [&str; 8] = ["default", "mapi", "ews", "oab", "activesync", "autodiscover", "ecp", "rpc"];

fn exchange(lines: &str) -> Policy {
    let service = exchange_profile(lines).try_map(|_| Ok::<_, ()>(0)).unwrap();
    Policy::compile(
        &service,
        vec![FarmNames {
            name: "exchange".to_owned(),
            hosts: BTreeSet::from(["sbex1.example.test".to_owned()]),
            tests: TESTS.map(str::to_owned).to_vec(),
        }],
    )
    .unwrap()
}

fn site(lines: &str) -> Policy {
    let service = site_service(lines).unwrap_or_else(|errors| panic!("{errors}"));
    Policy::compile(&service.try_map(|_| Ok::<_, ()>(0)).unwrap(), Vec::new()).unwrap()
}

#[test]
fn each_directory_of_the_profile_has_its_own_test_unless_one_is_said_to_be_for_all() {
    for (lines, tests) in [
        ("", ["default", "ews", "activesync", "mapi"]),
        ("health = { interval = \"1s\" }", ["default", "ews", "activesync", "mapi"]),
        ("health = { path = \"/up\" }", ["default"; 4]),
        ("health.path = \"/up\"\ntests.ews = { status = 401 }", ["default", "ews", "default", "default"]),
    ] {
        let policy = exchange(lines);
        for (path, wanted) in
            ["/owa/", "/EWS/", "/Microsoft-Server-ActiveSync", "/mapi/emsmdb"].iter().zip(tests)
        {
            let mut head = Head::default();
            let text = format!("GET {path} HTTP/1.1\r\nHost: mail.example.test\r\n\r\n");
            head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
            let client = "203.0.113.5".parse().unwrap();
            let facts = Facts { head: &head, host: "mail.example.test", target: path, client, port: 443 };
            let decision = policy.decide(facts);
            let Decision::Forward(forward) = decision else { panic!("{path}: {decision:?}") };
            assert_eq!(TESTS[forward.test], wanted, "{lines}: {path}");
        }
    }
}

#[test]
fn the_profile_publishes_what_exchange_serves_and_nothing_else() {
    let policy = exchange("");
    for (request, wanted) in [
        ("GET / 203.0.113.5", "302 /owa/"),
        ("GET /owa 203.0.113.5", "farm 0 silence 900 total - body 64"),
        ("POST /OWA/auth.owa 203.0.113.5", "farm 0 silence 900 total - body 64"),
        ("GET /owa/?ae=Item&id=RgAAA%2fx 203.0.113.5", "farm 0 silence 900 total - body 64"),
        ("POST /EWS/Exchange.asmx 203.0.113.5", "farm 0 silence 2400 total - body 128"),
        ("POST /Microsoft-Server-ActiveSync?Cmd=Ping 203.0.113.5", "farm 0 silence 3900 total - body 64"),
        ("POST /autodiscover/autodiscover.xml 203.0.113.5", "farm 0 silence 120 total 300 body 1"),
        ("POST /mapi/emsmdb/?MailboxId=a@b 203.0.113.5", "farm 0 silence 600 total - body 64"),
        ("GET /OAB/4c-1/oab.xml 203.0.113.5", "farm 0 silence 600 total - body 0"),
    ] {
        assert_eq!(decided(&policy, request), wanted, "{request}");
    }
    for request in [
        "GET /ecp/ 203.0.113.5",
        "GET /ecp 10.0.0.1",
        "POST /PowerShell 203.0.113.5",
        "RPC_IN_DATA /rpc/rpcproxy.dll?sbex1:6001 203.0.113.5",
        "GET /api/v2.0/me 203.0.113.5",
        "GET /owax 203.0.113.5",
        "GET /aspnet_client/ 203.0.113.5",
        "GET /iisstart.htm 203.0.113.5",
    ] {
        assert!(decided(&policy, request).starts_with("403 refused "), "{request}");
    }
    for request in [
        "GET /owa/../powershell 203.0.113.5",
        "GET /owa/%2e%2e/ecp/ 203.0.113.5",
        "GET /owa/..;/ecp 203.0.113.5",
        "GET /owa%2f..%2fecp 203.0.113.5",
        "GET /owa\\..\\ecp 203.0.113.5",
        "GET /%65cp/ 203.0.113.5",
        "GET //ecp/ 203.0.113.5",
    ] {
        let decision = decided(&policy, request);
        assert!(decision.starts_with("40"), "{request}: {decision}");
    }
}

#[test]
fn ecp_is_closed_or_for_networks_or_open() {
    for (lines, inside, outside) in [
        ("", "403", "403"),
        ("ecp = \"closed\"", "403", "403"),
        ("ecp = [\"10.0.0.0/8\"]", "farm", "403"),
        ("ecp = \"open\"", "farm", "farm"),
    ] {
        let policy = exchange(lines);
        for (client, wanted) in [("10.1.2.3", inside), ("203.0.113.5", outside)] {
            let decision = decided(&policy, &format!("GET /ecp/default.aspx {client}"));
            assert!(decision.starts_with(wanted), "{lines} {client}: {decision}");
        }
    }
}

#[test]
fn what_is_off_is_published_by_a_word_and_every_bound_can_be_another() {
    let lines = "rpc = true\napi = true\nroute.ews = { idle_timeout = \"1h\", body_limit = \"256MiB\" }\n\
                 route.autodiscover = { total_timeout = \"1min\" }";
    let policy = exchange(lines);
    for (request, wanted) in [
        ("RPC_IN_DATA /rpc/rpcproxy.dll?sbex1:6001 203.0.113.5", "farm 0 silence 15000 total - body 2048"),
        ("GET /api/v2.0/me 203.0.113.5", "farm 0 silence 120 total 600 body 32"),
        ("POST /ews/exchange.asmx 203.0.113.5", "farm 0 silence 3600 total - body 256"),
        ("POST /autodiscover/autodiscover.xml 203.0.113.5", "farm 0 silence 120 total 60 body 1"),
    ] {
        assert_eq!(decided(&policy, request), wanted, "{request}");
    }
}

#[test]
fn known_attacks_are_refused_by_name_unless_that_one_is_off() {
    let attack = "GET /autodiscover/autodiscover.json?@evil/powershell 203.0.113.5";
    let cookie = "GET /owa/ 203.0.113.5 X-AnonResource-Backend=a; b=c";
    let on = exchange("");
    for request in [attack, cookie] {
        let decision = decided(&on, request);
        assert!(decision.starts_with("403 refused mitigation "), "{request}: {decision}");
    }
    let name = decided(&on, attack).rsplit(' ').next().unwrap().to_owned();
    let off = exchange(&format!("mitigations_off = [\"{name}\"]"));
    assert!(!decided(&off, attack).contains(&name));
}

#[test]
fn rules_come_before_routes_and_may_name_a_farm() {
    let rules = "rewrite = [{ name = \"old\", match = \"^exchange(/.*)?$\", redirect = \"/owa{R:1}\", status = 301 }, \
                 { name = \"outside\", match = \"^ecp\", conditions = [{ input = \"{REMOTE_ADDR}\", match = \"^203\\\\.\" }], abort = true }, \
                 { name = \"to\", match = \"^special$\", rewrite = \"https://exchange/owa/x\" }, \
                 { name = \"nowhere\", match = \"^lost$\", rewrite = \"https://gone/owa/x\" }]\necp = \"open\"";
    let policy = exchange(rules);
    for (request, wanted) in [
        ("GET /Exchange/a?b=c 203.0.113.5", "301 /owa/a?b=c"),
        ("GET /ecp/ 203.0.113.5", "abort outside"),
        ("GET /ecp/ 198.51.100.1", "farm 0 silence 900 total - body 64"),
        ("GET /special 203.0.113.5", "farm 0 silence 900 total - body 64"),
        ("GET /lost 203.0.113.5", "403 refused a rule names the farm \"gone\", which there is not"),
    ] {
        assert_eq!(decided(&policy, request), wanted, "{request}");
    }
}

/// An abort must not be evaded by a URL that its pattern does not get through, and who tries is to be seen.
#[test]
fn what_is_beyond_a_rules_limits_is_refused_and_counted_by_itself() {
    let rules = "rewrite = [{ name = \"hard\", match = \"^owa/(?=a)(a+)+$\", abort = true }]";
    let policy = exchange(rules);
    let long = format!("GET /owa/{}b 203.0.113.5", "a".repeat(8000));
    for (request, wanted) in [
        ("GET /owa/aaa 203.0.113.5", "abort hard"),
        ("GET /owa/b 203.0.113.5", "farm 0 silence 900 total - body 64"),
        (&long, "403 rule_limit rule \"hard\": a pattern took too long"),
    ] {
        assert_eq!(decided(&policy, request), wanted, "{}", &request[..20]);
    }
}

/// The rule that ARR makes of a farm, which publishes whatever there is.
#[test]
fn what_the_profile_refuses_no_rule_publishes() {
    let all = "rewrite = [{ name = \"all\", match = \".*\", rewrite = \"https://exchange/{R:0}\" }, \
               { name = \"from\", match = \"^shell$\", rewrite = \"https://exchange/powershell\" }]";
    let networks = "\necp = [\"203.0.113.0/24\"]";
    for (lines, request, wanted) in [
        (all.to_owned(), "GET /owa/ 203.0.113.5", "farm 0"),
        (all.to_owned(), "GET /powershell 203.0.113.5", "403 refused"),
        (all.to_owned(), "GET /PowerShell/x 203.0.113.5", "403 refused"),
        (all.to_owned(), "GET /shell 203.0.113.5", "403 refused"),
        (all.to_owned(), "GET /ecp/ 203.0.113.5", "403 refused"),
        (all.to_owned() + networks, "GET /ecp/ 203.0.113.5", "farm 0"),
        (all.to_owned() + networks, "GET /ecp/ 198.51.100.1", "403 refused"),
    ] {
        let policy = exchange(&lines);
        assert!(decided(&policy, request).starts_with(wanted), "{request}: {}", decided(&policy, request));
    }
}

/// Else a client could switch off a field that the operator sets.
#[test]
fn a_field_that_is_removed_from_clients_is_not_there_for_rules() {
    let rules = "rewrite = [{ name = \"who\", match = \".*\", \
                 set = [{ name = \"HTTP_X_REAL_IP\", value = \"{REMOTE_ADDR}\", replace = false }] }]";
    let policy = exchange(rules);
    for fields in ["", "X-Real-IP: 10.0.0.1\r\n", "x_real_ip: 10.0.0.1\r\n"] {
        let mut head = Head::default();
        let text = format!("GET /owa/ HTTP/1.1\r\nHost: mail.example.test\r\n{fields}\r\n");
        head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
        let client = "203.0.113.5".parse().unwrap();
        let decision = policy.decide(Facts {
            head: &head,
            host: "mail.example.test",
            target: "/owa/",
            client,
            port: 443,
        });
        let Decision::Forward(forward) = decision else { panic!("{decision:?}") };
        let said: Vec<_> = forward.edits.said().collect();
        assert_eq!(said, [("x-real-ip", "203.0.113.5")], "{fields}");
    }
}

#[test]
fn a_location_that_names_a_server_is_made_to_name_the_site_where_that_is_wanted() {
    let mut service = exchange_profile("").try_map(|_| Ok::<_, ()>(0)).unwrap();
    let farm = FarmNames {
        name: "exchange".to_owned(),
        hosts: BTreeSet::from(["10.0.0.36".to_owned()]),
        tests: TESTS.map(str::to_owned).to_vec(),
    };
    for (wanted, on) in [(None, false), (Some("https://mail.example.test/owa/"), true)] {
        service.rewrite_location = on;
        let policy = Policy::compile(&service, vec![farm.clone()]).unwrap();
        let mut answer = Head::default();
        let text = "HTTP/1.1 302 Found\r\nLocation: https://10.0.0.36/owa/\r\n\r\n";
        answer.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
        assert_eq!(policy.location(&answer, "mail.example.test:443").as_deref(), wanted);
    }
}

#[test]
fn a_sites_networks_and_its_maintenance_come_before_all_else() {
    let policy = exchange("allow = [\"203.0.113.0/24\"]\ndeny = [\"203.0.113.9/32\"]");
    for (client, wanted) in
        [("203.0.113.5", "farm"), ("203.0.113.9", "403"), ("198.51.100.1", "403"), ("2001:db8::1", "403")]
    {
        assert!(decided(&policy, &format!("GET /owa/ {client}")).starts_with(wanted), "{client}");
    }
    let closed = exchange("maintenance = \"back at six\"");
    let page = "503  text/plain; charset=utf-8 back at six again in 300";
    assert_eq!(decided(&closed, "GET /owa/ 203.0.113.5"), page);
    assert_eq!(decided(&closed, "GET /owa/../powershell 203.0.113.5"), page);
}

#[test]
fn a_site_under_maintenance_is_open_for_who_works_on_it() {
    let policy = exchange(
        "maintenance = { text = \"<p>soon\", content_type = \"text/html\", retry_after = \"1h\", allow = [\"10.0.0.0/8\"] }\n\
         deny = [\"10.9.0.0/16\"]",
    );
    for (client, wanted) in [
        ("203.0.113.5", "503  text/html <p>soon again in 3600"),
        ("10.1.2.3", "farm 0 silence 900 total - body 64"),
        ("10.9.0.1", "403 refused the client's network may not ask this site"),
    ] {
        assert_eq!(decided(&policy, &format!("GET /owa/ {client}")), wanted, "{client}");
    }
}

#[test]
fn routes_go_by_host_and_header_fields_beside_path_method_and_network() {
    let lines = "[[site.route]]\nhosts = [\"shop.example.test\"]\npath = \"/\"\nrespond = \"shop\"\n\
                 [[site.route]]\npath = \"/\"\nheaders = { \"User-Agent\" = \"*Phone*\", X-Beta = \"*\" }\nrespond = \"phone\"\n\
                 [[site.route]]\npath = \"/\"\nheaders = { \"Accept\" = \"application/json\" }\nmethods = [\"GET\"]\n\
                 respond = \"{}\"\nstatus = 201\ncontent_type = \"application/json\"\n";
    let policy = site(lines);
    let plain = |text: &str| format!("200  text/plain; charset=utf-8 {text}");
    let (farm, json) = ("farm 0 silence 3600 total - body 2048", "201  application/json {}");
    for (host, method, fields, wanted) in [
        ("shop.example.test", "GET", "", plain("shop")),
        ("SHOP.example.test.:8443", "GET", "X-Beta: 1\r\n", plain("shop")),
        ("www.example.test", "GET", "", farm.to_owned()),
        ("www.example.test", "GET", "user-agent: Windows phone 8\r\nX-Beta:\r\n", plain("phone")),
        ("www.example.test", "GET", "user-agent: Windows phone 8\r\n", farm.to_owned()),
        ("www.example.test", "GET", "X-Beta: 1\r\n", farm.to_owned()),
        ("www.example.test", "GET", "Accept: text/html\r\naccept: Application/JSON\r\n", json.to_owned()),
        ("www.example.test", "GET", "Accept: application/jsonx\r\n", farm.to_owned()),
        ("www.example.test", "POST", "Accept: application/json\r\n", farm.to_owned()),
    ] {
        let line = format!("{method} / 203.0.113.5");
        assert_eq!(decided_at(&policy, host, &line, fields), wanted, "{host} {method} {fields}");
    }
}

#[test]
fn what_a_route_changes_of_header_fields_goes_with_the_request() {
    let lines = "request_headers = { set = { X-Client = \"{REMOTE_ADDR}\" } }\nresponse_headers = { remove = [\"Server\"] }\n\
                 maps.sites = { default = \"other\", entries = { \"www.example.test\" = \"main\" } }\n\
                 rewrite = [{ name = \"a\", match = \"^a\", set = [{ name = \"HTTP_X_RULE\", value = \"1\" }] }]\n\
                 [[site.route]]\npath = \"/a\"\nfarm = \"web\"\nrequest_headers = { add = { X-Site = \"{sites:{SERVER_NAME}}\" } }\n\
                 response_headers = { set = { X-Frame-Options = \"DENY\" }, add = { Server = \"{URL}\" } }\n";
    let policy = site(lines);
    let all = |edits: &Edits<'_>| {
        edits.said().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
    };
    for (target, request, response, server_gone) in [
        ("/b", "X-Client: 203.0.113.5", "", true),
        (
            "/a/c",
            "x-rule: 1, X-Client: 203.0.113.5, X-Site: main",
            "X-Frame-Options: DENY, Server: /a/c",
            false,
        ),
    ] {
        let mut head = Head::default();
        let text = format!("GET {target} HTTP/1.1\r\nHost: www.example.test:8443\r\n\r\n");
        head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
        let client = "203.0.113.5".parse().unwrap();
        let facts = Facts { head: &head, host: "www.example.test:8443", target, client, port: 8443 };
        let Decision::Forward(forward) = policy.decide(facts) else { panic!("{target}") };
        assert_eq!(all(&forward.edits), request, "{target}");
        assert_eq!(all(&forward.answer), response, "{target}");
        assert_eq!(forward.answer.replace(b"Server"), server_gone, "{target}");
    }
}

#[test]
fn a_rules_answer_has_its_reason_and_its_line() {
    let rules = "rewrite = [{ name = \"no\", match = \"^old/(.*)$\", respond = 410, reason = \"Gone {R:1}\", description = \"{R:1} is gone\" }]";
    let policy = exchange(rules);
    let wanted = "410 Gone a b text/plain; charset=utf-8 a b is gone";
    assert_eq!(decided(&policy, "GET /old/a%20b 203.0.113.5"), wanted);
}
