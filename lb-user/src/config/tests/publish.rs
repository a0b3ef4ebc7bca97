//! What is published: sites and farms, their rules, and the limits of all clients.

use super::*;
use crate::proxy::protect::client::ClientPrefixes;
use crate::proxy::protect::logon::LogonPolicy;
use crate::proxy::protect::proxies::{Source, TrustedProxy};
use crate::proxy::protect::rate::Quota;
use crate::proxy::tls::Alpn;

#[test]
fn sites_and_farms_may_stand_beside_exchange() {
    let more = r#"
[[rule]]
ports = 8443
affinity = "single"
[[site]]
names = ["www.example.test"]
certificate = "/w.pem"
key = "/w.key"
port = 8443
farm = "web"
[[farm]]
name = "web"
servers = ["10.0.0.40:8443"]
verify = "none"
health = { path = "/up", body = "", interval = "500ms" }
"#;
    let cluster = cluster_from(&format!("{REFERENCE}{more}")).unwrap();
    let ports: Vec<String> = cluster.rules.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["tcp 80", "tcp 443", "tcp 8443"]);
    let web = &cluster.farms[1];
    assert_eq!((web.name.as_str(), &web.verify), ("web", &Verify::Nothing));
    assert_eq!(web.tests[0].host, "www.example.test");
    assert_eq!(web.tests[0].interval, Duration::from_millis(500));
}

/// The reference with a site and a farm more, in which these lines stand.
fn with_web(route: &str, farm: &str) -> Result<Cluster, ConfigErrors> {
    cluster_text(&format!(
        "{REFERENCE}[[rule]]\nports = 8443\n[[site]]\nnames = [\"www.example.test\"]\ncertificate = \"/w.pem\"\n\
         key = \"/w.key\"\nport = 8443\nroute = [{{ path = \"/\", {route} }}]\n\
         [[farm]]\nname = \"web\"\nservers = [\"10.0.0.40\", \"10.0.0.41\"]\n{farm}\n"
    ))
}

#[test]
fn a_farms_further_tests_differ_from_its_own_in_what_they_say() {
    let farm = "health = { path = \"/up\", status = \"200-399,401\", body = \"\", successes = 3, live_failures = 0 }\n\
                tests.api = { path = \"/api/up\", method = \"HEAD\", live_failures = 5, live_status = \"500-\" }\n\
                balance = { panic_threshold = 2 }";
    let cluster = with_web("farm = \"web\", test = \"api\"", farm).unwrap();
    let [own, api] = &cluster.farms[1].tests[..] else { panic!("{:?}", cluster.farms[1].tests) };
    assert_eq!((own.name.as_str(), own.path.as_str(), own.method.as_str()), ("default", "/up", "GET"));
    assert_eq!((own.expect.statuses.to_string().as_str(), own.live_traffic.is_none()), ("200-399,401", true));
    let live = api.live_traffic.as_ref().unwrap();
    assert_eq!((api.method.as_str(), api.path.as_str(), &api.expect), ("HEAD", "/api/up", &own.expect));
    assert_eq!((live.failures.get(), live.statuses.as_ref().unwrap().to_string()), (5, "500-".to_owned()));
    assert_eq!((api.thresholds.successes.get(), cluster.farms[1].balance.panic_threshold), (3, 2));
    let site = cluster.sites.iter().find(|site| site.names == ["www.example.test"]).unwrap();
    assert_eq!(site.service.routes[0].test.as_deref(), Some("api"));
    let again = cluster_text(&expanded(&cluster)).unwrap();
    assert_eq!((again.farms, again.sites), (cluster.farms, cluster.sites));
}

#[test]
fn a_test_that_cannot_be_is_told_with_its_place() {
    for (route, farm, wanted) in [
        ("farm = \"web\", test = \"api\"", "", "the farm \"web\" has no test \"api\""),
        ("respond = \"x\", test = \"api\"", "", "`test` is for routes with `farm`"),
        ("farm = \"web\"", "tests.api = {}", "no route uses the test \"api\""),
        ("farm = \"web\", test = \"API\"", "tests.API = {}", "\"API\" is not a name for a health test"),
        (
            "farm = \"web\", test = \"default\"",
            "tests.default = {}",
            "\"default\" is not a name for a health",
        ),
        ("farm = \"web\"", "health.status = \"20\"", "\"20\" names no HTTP status"),
        ("farm = \"web\"", "health.status = 20", "\"20\" names no HTTP status"),
        ("farm = \"web\"", "health.method = \"POST\"", "`method` cannot be \"POST\""),
        (
            "farm = \"web\"",
            "health = { method = \"HEAD\", body = \"ok\" }",
            "an answer to HEAD has no `body`",
        ),
        ("farm = \"web\"", "health.successes = 0", "`successes` is 0, outside 1 to 100"),
        ("farm = \"web\"", "health.live_failures = 1001", "`live_failures` is 1001, outside 0 to 1000"),
        ("farm = \"web\"", "health.live_status = \"600-500\"", "the range 600-500 ends before it begins"),
        ("farm = \"web\"", "balance.panic_threshold = 3", "`panic_threshold` is 3, outside 0 to 2"),
    ] {
        let error = with_web(route, farm).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("cluster.toml:"), "{route}, {farm}: {error}");
    }
    let unknown = REFERENCE.replace("[exchange]", "[exchange]\ntests.powershell = {}");
    let error = cluster_text(&unknown).unwrap_err().to_string();
    assert!(error.contains("there is no route `powershell` in the profile"), "{error}");
}

#[test]
fn who_is_refused_at_ecp_is_told_of_owas_options() {
    for ecp in ["", "ecp = \"closed\"", "ecp = [\"10.0.0.0/8\"]"] {
        let service = exchange_profile(ecp);
        let refusal = service.routes.iter().find_map(|route| match (&route.path, &route.action) {
            (PathMatch::Under(path), Action::Refuse { why }) if path == "/ecp" => Some(why),
            _ => None,
        });
        assert!(
            refusal.unwrap().contains("the administration pages and OWA's options, which lie under /ecp")
        );
    }
}

#[test]
fn what_exchange_stands_for_can_be_written_out_and_means_the_same() {
    let lines = "rate = { requests = 9, per = \"90s\", burst = 4 }\necp = [\"10.0.0.0/8\"]\nrpc = true\nhsts = \"365d\"\ndeny = [\"198.51.100.0/24\"]\n\
                 route.oab = { body_limit = 7, idle_timeout = \"1500ms\" }\n\
                 maintenance = { text = \"<p>soon\", content_type = \"text/html\", retry_after = \"90s\", allow = [\"10.0.0.0/8\"] }\n\
                 balance = { hash_query = [\"user\"], slow_start = \"30s\", queue = 5, queue_timeout = \"1min\", affinity_cookie = \"Own\" }\n\
                 health = { status = \"200-299\", failures = 7 }\ntests.activesync = { status = \"200,401\", body = \"\" }\n\
                 client_certificates = { ca = \"/etc/rollcall/clients.pem\", mode = \"optional\" }\n\
                 maps.hosts = { default = \"none\", entries = { \"a b\" = \"c\" } }\n\
                 rewrite = [{ name = \"old\", match = \"^exchange/(.*)$\", redirect = \"/owa/{R:1}\", status = 301, stop = true }, \
                 { name = \"who\", match = \"*\", syntax = \"wildcard\", negate = true, any_condition = true, \
                 conditions = [{ input = \"{hosts:{HTTP_HOST}}\", match = \"a?\" }], \
                 set = [{ name = \"HTTP_X_WHO\", value = \"{REMOTE_ADDR}\", replace = false }] }, \
                 { name = \"no\", match = \"x\", syntax = \"exact\", respond = 404, reason = \"Gone\" }, \
                 { name = \"away\", match = \"y\", abort = true, enabled = false }]";
    for lines in ["", lines] {
        let servers =
            "{ address = \"10.0.0.38\", weight = 7, state = \"drain\", backup = true, connections = 9 }";
        let text = REFERENCE.replace("[exchange]", &format!("[exchange]\n{lines}"));
        let text = text.replace("servers = [", &format!("servers = [{servers}, "));
        let protection = "[protection]\nlogon_rate = { requests = 5, per = \"1h\" }\nrate_clients = 7\nclient_prefix_v4 = 24\n\
                          [protection.logons]\nenabled = true\nslow_after = 1\nfirst_delay = \"1500ms\"\nspray_share = 75\n";
        let proxies = "[[trusted_proxy]]\nnetworks = [\"192.0.2.20\", \"2001:db8::/64\"]\nclient_address = \"forwarded\"\n\
                       [[trusted_proxy]]\nnetworks = [\"192.0.2.0/24\"]\none_client_per_connection = true\n";
        let text = if lines.is_empty() { text } else { format!("{text}{protection}{proxies}") };
        let short = cluster_text(&text).unwrap();
        let long = cluster_text(&expanded(&short)).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(long, short);
    }
}

#[test]
fn routes_and_answers_can_be_written_out_and_mean_the_same() {
    let lines = "maintenance = \"soon\"\nrequest_headers = { set = { \"X-A\" = \"{REMOTE_ADDR}\", X-B = \"\\\"\" }, add = { X-C = \"\" } }\n\
                 [[site.route]]\nexact = \"/up\"\nhosts = [\"shop.example.test\"]\nmethods = [\"GET\"]\n\
                 headers = { \"X-A\" = \"b*\\\"c\", \"Accept\" = \"*\" }\nrespond = \"<p>\"\nstatus = 203\ncontent_type = \"text/html\"\n\
                 [[site.route]]\npath = \"/none\"\nrespond = \"\"\nstatus = 204\n\
                 response_headers = { remove = [\"Server\", \"X-Powered-By\"], set = { X-D = \"{HTTP_HOST}\" } }\n";
    let short = site_cluster(lines).unwrap_or_else(|errors| panic!("{errors}"));
    let long = cluster_text(&expanded(&short));
    assert_eq!(long.unwrap_or_else(|errors| panic!("{errors}")), short);
}

#[test]
fn any_name_of_a_site_but_the_first_may_be_all_of_a_domain() {
    let names = |names: &str| {
        let text = format!("[exchange]\nhsts = \"1h\"\nnames = {names}");
        let reference =
            REFERENCE.replace("names = [\"mail.example.test\", \"autodiscover.example.test\"]\n", "");
        cluster_text(&reference.replace("[exchange]", &text)).map_err(|errors| errors.to_string())
    };
    let sound = names("[\"mail.example.test\", \"*.example.test\"]").unwrap();
    assert_eq!(sound.sites[0].names, ["mail.example.test", "*.example.test"]);
    assert!(expanded(&sound).contains("\"*.example.test\""));
    let first = "the first of a site's `names` stands for many";
    let not_one = "is neither a host name nor all names of a domain";
    for (list, wanted, hint) in [
        ("[\"*.example.test\"]", first, "names = [\"www.example.test\", \"*.example.test\"]"),
        ("[\"*.example.test\", \"mail.example.test\"]", first, "put a whole one before it"),
        ("[\"mail.example.test\", \"*\"]", not_one, "`*` stands for the whole first label"),
        ("[\"mail.example.test\", \"*.test\"]", not_one, "before a domain of two or more"),
        ("[\"mail.example.test\", \"a*.example.test\"]", not_one, "`*` stands"),
        ("[\"mail.example.test\", \"a.*.example.test\"]", not_one, "`*` stands"),
        ("[\"mail.example.test\", \"*.*.example.test\"]", not_one, "`*` stands"),
        ("[\"mail.example.test\", \"*.Example.test\"]", not_one, "in lower case"),
        ("[\"mail.example.test\", \"*.10.0.0.1\"]", not_one, "`*` stands"),
        (
            "[\"mail.example.test\", \"*.example.test\", \"*.example.test\"]",
            "the name *.example.test:443 belongs to another site already",
            "each must have its own",
        ),
    ] {
        let error = names(list).unwrap_err();
        assert!(error.contains(wanted) && error.contains(hint), "{list}: {error}");
    }
    let site = |host: &str| {
        let lines = format!("[[site.route]]\npath = \"/\"\nrespond = \"x\"\nhosts = [\"{host}\"]\n");
        site_cluster_of("\"www.example.test\", \"*.shop.example.test\"", &lines)
            .map_err(|errors| errors.to_string())
    };
    assert!(site("a.shop.example.test").is_ok());
    assert!(site("a.b.shop.example.test").unwrap_err().contains("the site has no name"));
    assert!(site("*.shop.example.test").unwrap_err().contains("is not a host name in lower case"));
}

#[test]
fn routes_and_answers_that_cannot_be_are_told_with_what_to_do() {
    let route = |line: &str| format!("[[site.route]]\npath = \"/\"\n{line}\n");
    let respond = |line: &str| route(&format!("respond = \"x\"\n{line}"));
    let long = "x".repeat((64 << 10) + 1);
    for (lines, wanted) in [
        (respond("hosts = [\"mail.example.test\"]"), "the site has no name \"mail.example.test\"\n"),
        (
            respond("hosts = [\"WWW.example.test\"]"),
            "\"WWW.example.test\" is not a host name in lower case\n",
        ),
        (respond("headers = { \"a b\" = \"x\" }"), "\"a b\" is not the name of a header field\n"),
        (respond("headers = { Host = \"x\" }"), "no route can go by Host as a header field\n"),
        (
            respond("headers = { X-Forwarded-For = \"10.*\" }"),
            "what a client says in X-Forwarded-For is not believed",
        ),
        (respond("headers = { X_A = \"1\" }"), "what a client says in X_A is not believed"),
        (respond("headers = { X-A = \"a\\nb\" }"), "no value of X-A can be that\n"),
        (respond("content_type = \"html\""), "\"html\" is not a media type\n"),
        (respond("content_type = \"text/html\\r\\nX: y\""), "is not a media type\n"),
        (respond("status = 204"), "an answer with status 204 has no content\n"),
        (route(&format!("respond = \"{long}\"")), "an answer of 65537 bytes, more than 65536\n"),
        (
            "maintenance = { text = \"x\", retry_after = \"1500ms\" }".to_owned(),
            "`retry_after` is told to clients in whole seconds",
        ),
        (
            "maintenance = { text = \"x\", retry_after = \"2d\" }".to_owned(),
            "`retry_after` is 172800 s, outside 1 s to 86400 s",
        ),
        (
            "maintenance = { text = \"x\", allow = [\"10.0.0.1/8\"] }".to_owned(),
            "`10.0.0.1/8` has bits behind its prefix",
        ),
        ("maintenance = { page = \"x\" }".to_owned(), "unknown key `page`"),
        ("maintenance = 5".to_owned(), "wrong type"),
        (
            "request_headers = { set = { Content-Length = \"5\" } }".to_owned(),
            "Content-Length cannot be changed: it frames the message, or belongs to one connection alone\n",
        ),
        (respond("response_headers = { remove = [\"Location\"] }"), "Location cannot be changed here\n"),
        (
            respond("request_headers = { set = { X-A = \"1\" }, remove = [\"x-a\"] }"),
            "x-a is changed twice here\n",
        ),
        (
            respond("request_headers = { set = { X-A = \"{maps:1}\" } }"),
            "X-A cannot have this value: character 0: ",
        ),
    ] {
        let error = site_cluster(&lines).unwrap_err().to_string();
        assert!(error.contains(wanted), "{lines}: {error}");
    }
}

#[test]
fn challenges_of_certificate_authorities_go_to_a_server_where_port_80_is_ours() {
    let exchange =
        |line: &str| cluster_text(&REFERENCE.replace("[exchange]", &format!("[exchange]\n{line}")));
    for (line, wanted) in
        [("acme = \"10.0.0.5\"", "10.0.0.5:80"), ("acme = \"127.0.0.1:8888\"", "127.0.0.1:8888")]
    {
        let cluster = exchange(line).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(cluster.sites[0].service.acme, Some(wanted.parse().unwrap()));
        assert!(expanded(&cluster).contains(&format!("\nacme = \"{wanted}\"\n")));
    }
    for line in ["acme = \"certbot\"", "acme = \"10.0.0.5:0\"", "acme = \"224.0.0.1\""] {
        let error = exchange(line).unwrap_err().to_string();
        assert!(error.contains("is not the address of a server"), "{line}: {error}");
    }
    let error = exchange("acme = \"10.0.0.5\"\nredirect_http = false").unwrap_err().to_string();
    assert!(error.contains("`acme` needs port 80"), "{error}");
    let error = site_cluster("acme = \"10.0.0.5\"").unwrap_err().to_string();
    assert!(error.contains("`acme` needs port 80"), "{error}");
}

#[test]
fn connections_are_shared_where_a_farm_says_so_and_never_for_exchange() {
    let farm = |line: &str| {
        site_cluster("").map(|cluster| expanded(&cluster)).map(|text| {
            assert_eq!(text.matches("reuse = \"own\"").count(), 2, "{text}");
            cluster_text(&text.replace("reuse = \"own\"", line))
        })
    };
    let shared = farm("reuse = \"shared\"").unwrap().unwrap_or_else(|errors| panic!("{errors}"));
    assert!(shared.farms.iter().all(|farm| farm.reuse == Reuse::Shared));
    assert_eq!(expanded(&shared).matches("reuse = \"shared\"").count(), 2);
    let error = farm("reuse = \"always\"").unwrap().unwrap_err().to_string();
    assert!(error.contains("`reuse` cannot be \"always\""), "{error}");
    let exchange =
        |line: &str| cluster_text(&REFERENCE.replace("[exchange]", &format!("[exchange]\n{line}")));
    let error = exchange("reuse = \"shared\"").unwrap_err().to_string();
    assert!(
        error.contains("cluster.toml:16:") && error.contains("NTLM and Kerberos log a connection on"),
        "{error}"
    );
    exchange("reuse = \"own\"").unwrap();
}

#[test]
fn servers_without_tls_are_a_farms_own_word_and_never_exchanges() {
    let farm = |lines: &str| {
        let text =
            "[[farm]]\nname = \"plain\"\nservers = [\"10.0.0.50\", \"10.0.0.51:8080\", \"127.0.0.1\"]\n";
        site_cluster(&format!("[[site.route]]\npath = \"/plain\"\nfarm = \"plain\"\n{text}{lines}"))
    };
    let cluster = farm("tls = false").unwrap_or_else(|errors| panic!("{errors}"));
    let plain = cluster.farms.iter().find(|farm| farm.name == "plain").unwrap();
    let addresses: Vec<String> = plain.servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(plain.verify, Verify::Clear);
    assert_eq!(addresses, ["10.0.0.50:80", "10.0.0.51:8080", "127.0.0.1:80"]);
    let warning = in_clear(plain).unwrap();
    assert!(warning.ends_with("travel in clear to 10.0.0.50:80, 10.0.0.51:8080"), "{warning}");
    assert!(expanded(&cluster).contains("\ntls = false\n"));
    assert_eq!(farm("tls = true").unwrap().farms.iter().find_map(in_clear), None);
    for lines in ["tls = false\nverify = \"none\"", "tls = false\nca = \"/ca.pem\""] {
        let error = farm(lines).unwrap_err().to_string();
        assert!(error.contains("`tls` is false"), "{lines}: {error}");
    }
    let text = REFERENCE.replace("[exchange]", "[exchange]\ntls = false");
    let error = cluster_text(&text).unwrap_err().to_string();
    assert!(
        error.contains("cluster.toml:16:") && error.contains("SSL offloading ends Extended Protection"),
        "{error}"
    );
    cluster_text(&REFERENCE.replace("[exchange]", "[exchange]\ntls = true")).unwrap();
}

#[test]
fn a_site_speaks_http2_unless_told_otherwise_and_exchange_never_does() {
    let protocols = |line: &str| {
        let site = "[[rule]]\nports = 8443\n[[site]]\nnames = [\"a.test\"]\ncertificate = \"/w.pem\"\n\
                    port = 8443\nfarm = \"exchange\"\n";
        let cluster =
            cluster_text(&format!("{REFERENCE}{site}{line}\n")).map_err(|error| error.to_string())?;
        let expanded = cluster_text(&expanded(&cluster));
        assert_eq!(expanded.unwrap_or_else(|errors| panic!("{errors}")).sites, cluster.sites);
        let site = |name: &str| {
            let site = cluster.sites.iter().find(|site| site.names[0] == name);
            site.unwrap().tls.protocols.clone()
        };
        assert_eq!(site("mail.example.test"), [Alpn::Http11]);
        Ok::<_, String>(site("a.test"))
    };
    assert_eq!(protocols(""), Ok(vec![Alpn::H2, Alpn::Http11]));
    assert_eq!(protocols("protocols = [\"http/1.1\"]"), Ok(vec![Alpn::Http11]));
    assert_eq!(protocols("protocols = [\"http/1.1\", \"h2\"]"), Ok(vec![Alpn::Http11, Alpn::H2]));
    for (line, wanted) in [
        ("protocols = []", "`protocols` is empty\n"),
        ("protocols = [\"h3\"]", "`protocols` cannot be \"h3\"\n"),
        ("protocols = [\"h2\", \"h2\"]", "the protocol h2 belongs to this site already\n"),
    ] {
        let error = protocols(line).unwrap_err();
        assert!(error.contains(wanted) && error.contains("\nhint: "), "{line}: {error}");
    }
    let error = cluster_text(&REFERENCE.replace("[exchange]", "[exchange]\nprotocols = [\"h2\"]"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`protocols`") && error.contains("cluster.toml:16:"), "{error}");
}

#[test]
fn a_rule_that_could_never_work_is_told_with_its_place() {
    for (rule, wanted) in [
        ("match = \"(\"", "the rule \"a\" cannot be used: "),
        ("match = \"x\", redirect = \"/{R:3}\"", "the rule \"a\" cannot be used: "),
        ("match = \"x\", redirect = \"/\", abort = true", "at most one of `rewrite`"),
        ("match = \"x\", redirect = \"/\", status = 200", "200 is not the status of a redirect"),
        ("match = \"x\", syntax = \"perl\"", "`syntax` cannot be \"perl\""),
        (
            "match = \"x\", set = [{ name = \"HTTP_HOST\", value = \"{NOBODY}\" }]",
            "the rule \"a\" cannot be used: ",
        ),
    ] {
        let text =
            REFERENCE.replace("[exchange]", &format!("[exchange]\nrewrite = [{{ name = \"a\", {rule} }}]"));
        let error = cluster_text(&text).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("cluster.toml:16:"), "{rule}: {error}");
    }
}

#[test]
fn a_network_is_allowed_or_denied_and_what_it_is_told_has_its_place() {
    let lists =
        |allow: &str, deny: &str| format!("allow = [\"{allow}\"]\ndeny = [\"192.0.2.9\", \"{deny}\"]\n");
    let site = "[[rule]]\nports = 8443\n[[site]]\nnames = [\"a.test\"]\ncertificate = \"/w.pem\"\n\
                key = \"/w.key\"\nport = 8443\nfarm = \"exchange\"\n";
    let tables = [REFERENCE.replace("[exchange]", "[exchange]\nLISTS"), format!("{REFERENCE}{site}LISTS")];
    for table in &tables {
        let with = |lists: &str| cluster_text(&table.replace("LISTS", lists));
        with(&lists("10.0.0.0/8", "10.0.0.0/9")).unwrap_or_else(|errors| panic!("{errors}"));
        for (allow, deny, wanted) in [
            ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8 is both allowed and denied\n"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8", "10.0.0.0/8 is both allowed and denied\n"),
            ("10.0.0.0/8", "10.0.0.1/8", "`10.0.0.1/8` has bits behind its prefix\n"),
        ] {
            let error = with(&lists(allow, deny)).unwrap_err().to_string();
            let shown = error.contains(wanted)
                && error.contains(&format!("deny = [\"192.0.2.9\", \"{deny}\"]"))
                && error.contains("\nhint: ");
            assert!(shown, "{allow}, {deny}: {error}");
        }
    }
}

#[test]
fn limits_are_what_is_written_within_their_ranges() {
    let with = |lines: &str| cluster_text(&format!("{REFERENCE}[limits]\n{lines}\n"));
    let limits = with("head_size = \"128KiB\"\nidle = \"50s\"\nconnections_per_client = 7").unwrap().limits;
    let wanted = Limits {
        head_bytes: 128 << 10,
        idle: Duration::from_secs(50),
        connections_per_client: 7,
        ..Limits::default()
    };
    assert_eq!(limits, wanted);
    let error = with("head = \"30s\"\nbody_rate = 0").unwrap_err().to_string();
    assert!(error.contains("the limit `body_rate` is 0") && error.contains("body_rate = 0\n"), "{error}");
}

#[test]
fn protection_is_off_until_it_is_written_and_a_site_may_have_rates_of_its_own() {
    let rates = |cluster: &Cluster| -> Vec<_> {
        let quotas = |site: &Site| [site.service.rates.general, site.service.rates.authentication];
        let numbers = |quota: Quota| (quota.requests.get(), quota.per.as_secs(), quota.burst.get());
        cluster.sites.iter().map(|site| quotas(site).map(|quota| quota.map(numbers))).collect()
    };
    let none = cluster_text(REFERENCE).unwrap();
    assert!(!none.protection.logons.enabled);
    assert_eq!(rates(&none), [[None, None]]);
    let site = "[[rule]]\nports = 8443\n[[site]]\nnames = [\"a.test\"]\ncertificate = \"/w.pem\"\nkey = \"/w.key\"\n\
                port = 8443\nfarm = \"exchange\"\nrate = \"off\"\nlogon_rate = { requests = 1, per = 2, burst = 3 }\n";
    let shared = "[protection]\nrate = { requests = 600, per = \"1min\" }\nclient_prefix_v6 = 56\n\
                  [protection.logons]\nenabled = true\nrefuse_after = 6\n";
    let cluster =
        cluster_text(&format!("{REFERENCE}{site}{shared}")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(rates(&cluster), [[Some((600, 60, 600)), None], [None, Some((1, 2, 3))]]);
    let logons = LogonPolicy { enabled: true, refuse_after: 6, ..LogonPolicy::default() };
    let clients = ClientPrefixes { v6: 56, ..ClientPrefixes::default() };
    assert_eq!(cluster.protection, Protection { logons, clients, ..Protection::default() });
}

#[test]
fn a_protection_that_cannot_be_meant_is_told_with_its_place() {
    for (lines, wanted) in [
        ("rate = \"on\"", "wrong value: string \"on\""),
        ("rate = { requests = 0, per = 1 }", "`requests` is 0, outside 1 to 1000000"),
        ("logon_rate = { requests = 5, per = \"2h\" }", "`per` is 7200 s, outside 1 s to 3600 s"),
        ("rate = { requests = 5, per = 1, burst = 0 }", "`burst` is 0, outside 1 to 1000000"),
        ("rate = { requests = 5, per = 1, bursts = 7 }", "`bursts`"),
        ("client_prefix_v4 = 33", "`client_prefix_v4` is 33, outside 8 to 32"),
        ("logons = { enabled = true, longest_delay = \"2min\" }", "the limit `longest_delay` is 120 s"),
    ] {
        let error = cluster_text(&format!("{REFERENCE}[protection]\n{lines}\n")).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains(lines), "{lines}: {error}");
    }
}

#[test]
fn a_trusted_proxy_shares_its_connections_unless_it_says_otherwise() {
    let with = |lines: &str| cluster_text(&format!("{REFERENCE}[[trusted_proxy]]\n{lines}\n"));
    let proxy = |source, one_client_per_connection| TrustedProxy {
        networks: vec!["192.0.2.20".parse().unwrap()],
        source,
        one_client_per_connection,
    };
    let networks = "networks = [\"192.0.2.20\"]";
    for (lines, wanted) in [
        ("", proxy(Source::XForwardedFor, false)),
        (
            "client_address = \"proxy-protocol\"\none_client_per_connection = true",
            proxy(Source::ProxyProtocol, true),
        ),
    ] {
        assert_eq!(with(&format!("{networks}\n{lines}")).unwrap().trusted_proxies, [wanted]);
    }
    for (lines, wanted) in [
        ("networks = []".to_owned(), "`networks` is empty"),
        ("networks = [\"0.0.0.0/0\"]".to_owned(), "everybody would be believed"),
        ("networks = [\"192.0.2.1/24\"]".to_owned(), "has bits behind its prefix"),
        (format!("{networks}\nclient_address = \"via\""), "`client_address` cannot be \"via\""),
        (format!("{networks}\n[[trusted_proxy]]\n{networks}"), "belongs to another trusted proxy already"),
    ] {
        let error = with(&lines).unwrap_err().to_string();
        assert!(error.contains(wanted), "{lines}: {error}");
    }
}
