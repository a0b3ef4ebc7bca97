//! Values of IIS's schema, and attributes of `protocol` that mean the same wherever they stand. Pure.

use crate::iis::ledger::Became;
use crate::iis::model::Settings;

/// `[d.]hh:mm:ss[.fff]` in milliseconds.
pub(super) fn time_span(text: &str) -> Option<u64> {
    let (days, clock) =
        match text.split_once(':').map(|(first, _)| first).and_then(|first| first.split_once('.')) {
            Some((days, _)) => (days.parse::<u64>().ok()?, &text[days.len() + 1..]),
            None => (0, text),
        };
    let parts: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, seconds] = parts[..] else { return None };
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number < 1_000_000);
    let whole =
        ((number(&days.to_string())? * 24 + number(hours)?) * 60 + number(minutes)?) * 60 + number(seconds)?;
    Some(whole * 1000 + number(&millis)?)
}

/// A length of time as the configuration has it.
pub(super) fn time(millis: u64) -> String {
    let units = [("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];
    let whole = units.into_iter().find(|(_, unit)| millis.is_multiple_of(*unit) && millis >= *unit);
    whole.map_or("\"0s\"".to_owned(), |(name, unit)| format!("\"{}{name}\"", millis / unit))
}

/// `millis` within a range, and whether it lies in it.
pub(super) fn within(millis: u64, least: u64, most: u64) -> (u64, bool) {
    (millis.clamp(least, most), (least..=most).contains(&millis))
}

/// What becomes of an attribute of `protocol`, of a farm or of the server, that is the same for both.
pub(super) fn protocol(settings: &Settings, name: &str) -> Became {
    let value = settings.text_or(name, "");
    let usual = |default: &str, why: &str, otherwise: &str| {
        if value.eq_ignore_ascii_case(default) { Became::unneeded(why) } else { Became::warned(otherwise) }
    };
    match name {
        "httpVersion" => match value {
            "Http10" => Became::warned("servers are spoken to in HTTP/1.1"),
            _ => Became::unneeded("servers are spoken to in HTTP/1.1"),
        },
        "keepAlive" => {
            usual("true", "connections are kept", "connections to servers are kept while their client's is")
        }
        "xForwardedForHeaderName" => usual(
            "X-Forwarded-For",
            "X-Forwarded-For is always sent",
            "the client's address is sent in X-Forwarded-For",
        ),
        "includePortInXForwardedFor" if settings.is(name, true) => {
            Became::warned("X-Forwarded-For has the client's address without its port: change what reads it")
        }
        "includePortInXForwardedFor" => Became::mapped("X-Forwarded-For"),
        "xForwardedByHeaderName" | "xForwardedByHeader" => Became::warned("X-Forwarded-By is not sent"),
        "sslHeaderName" => usual(
            "X-ARR-SSL",
            "X-Forwarded-Proto tells servers of TLS; Exchange reads neither",
            "X-Forwarded-Proto tells servers of TLS",
        ),
        "clientCertHeaderName" => usual(
            "X-ARR-ClientCert",
            "clients' certificates are not passed on",
            "clients' certificates are not passed on",
        ),
        "logGuidName" => usual("X-ARR-LOG-ID", "X-Request-Id names requests", "X-Request-Id names requests"),
        "logCacheHitName" | "arrResponseHeader" | "stealthMode" => {
            Became::unneeded("the proxy adds no such field")
        }
        "maxForwards" => Became::unneeded("there are no chains of proxies"),
        "minResponseBuffer" => match value {
            "0" => Became::mapped("answers are passed on as they come"),
            _ => Became::warned("answers are passed on as they come, without a least amount"),
        },
        "responseBufferLimit" | "bufferChunkedResponses" => {
            Became::unneeded("answers are passed on as they come")
        }
        "maxResponseHeaderSize" => Became::unneeded("heads of answers have a limit of their own"),
        "enabled" => Became::unneeded("of ARR's cache; nothing is cached here"),
        "requestConsolidationEnabled"
        | "requestConsolidationTimeout"
        | "queryStringHandling"
        | "validationInterval" => Became::unneeded("of ARR's cache; nothing is cached here"),
        "reverseRewriteHostInResponseHeaders" if settings.is(name, false) => {
            Became::mapped("rewrite_location of sites")
        }
        "reverseRewriteHostInResponseHeaders" => Became::unneeded("off, as it is here"),
        "alternateHostName" if value.is_empty() => Became::unneeded("empty"),
        "alternateHostName" => Became::warned(HOST),
        _ => towards_servers(value, name),
    }
}

/// What says how servers are reached.
fn towards_servers(value: &str, name: &str) -> Became {
    match name {
        "proxy" | "proxyBypass" => {
            if value.is_empty() {
                Became::unneeded("empty")
            } else {
                Became::refused("another proxy before the servers; there is no such way here")
            }
        }
        "clientCertFileName" | "clientCertHash" | "clientCertFilePassword" if !value.is_empty() => {
            Became::refused("a certificate shown to servers; there is no such way here")
        }
        "clientCertFileName" | "clientCertHash" | "clientCertFilePassword" => Became::unneeded("empty"),
        _ => Became::refused("not known to this import; see what it did in ARR"),
    }
}

/// Whom servers are told that clients ask for.
pub(super) const HOST: &str = "servers get the Host that the client sent, as Exchange needs it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_and_written() {
        for (text, millis, written) in [
            ("00:00:30", Some(30_000), "\"30s\""),
            ("01:00:00", Some(3_600_000), "\"1h\""),
            ("00:02:00", Some(120_000), "\"2min\""),
            ("1.00:00:00", Some(86_400_000), "\"24h\""),
            ("00:00:00.1000000", Some(100), "\"100ms\""),
            ("00:00:00", Some(0), "\"0s\""),
            ("30", None, ""),
            ("99999999999:00:00", None, ""),
            ("a:b:c", None, ""),
            ("1.", None, ""),
        ] {
            assert_eq!(time_span(text), millis, "{text}");
            assert_eq!(millis.map(time).unwrap_or_default(), written, "{text}");
        }
    }
}
