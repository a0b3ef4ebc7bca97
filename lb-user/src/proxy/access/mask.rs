//! What a log must not keep: values in a query whose name sounds like a secret. OWA's canary and download tokens, SAML and OAuth
//! answers, passwords in links. Rather one too many than one too few: an operator can do without a value, a user not.

use super::line::cut;

/// Appends `query` by `put`, with `***` in place of every value that may be a secret.
pub(super) fn query(query: &[u8], mut put: impl FnMut(&[u8])) {
    for (at, part) in cut(query).split(|byte| *byte == b'&').enumerate() {
        if at > 0 {
            put(b"&");
        }
        match part.iter().position(|byte| *byte == b'=') {
            Some(equals) if is_secret(&part[..equals], &part[equals + 1..]) => {
                put(&part[..=equals]);
                put(b"***");
            }
            Some(_) | None => put(part),
        }
    }
}

/// Appends a referrer in the same way, without the name and password that may stand before its host.
pub(super) fn referrer(url: &[u8], mut put: impl FnMut(&[u8])) {
    let end = url.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(url.len());
    let (mut before, rest) = url.split_at(end);
    if let Some(host) = before.windows(3).position(|three| three == b"://").map(|at| at + 3) {
        let path = before[host..].iter().position(|byte| *byte == b'/').map_or(before.len(), |at| host + at);
        if let Some(user) = before[host..path].iter().rposition(|byte| *byte == b'@') {
            put(&before[..host]);
            before = &before[host + user + 1..];
        }
    }
    put(cut(before));
    if let Some((mark, rest)) = rest.split_first() {
        put(&[*mark]);
        query(rest, put);
    }
}

fn is_secret(name: &[u8], value: &[u8]) -> bool {
    let (mut name_buffer, mut value_buffer) = ([0; LOOKED_AT], [0; LOOKED_AT]);
    // Who has a longer name than is looked at hides something.
    let Some(name) = plain(name, &mut name_buffer) else {
        return true;
    };
    let Some(value) = plain(value, &mut value_buffer) else {
        return true;
    };
    let contains = |text: &[u8], word: &&[u8]| text.windows(word.len()).any(|part| part == *word);
    // A URL within the value has a query of its own.
    let nested = value.contains(&b'=') && WORDS.iter().any(|word| contains(value, word));
    // A JSON Web Token, whatever it is called.
    let token = value.starts_with(b"eyj");
    NAMES.contains(&name) || WORDS.iter().any(|word| contains(name, word)) || nested || token
}

/// The text in lower case, without the escapes of two levels; `None`: too long.
fn plain<'a>(text: &[u8], buffer: &'a mut [u8; LOOKED_AT]) -> Option<&'a [u8]> {
    let all = buffer.get_mut(..text.len())?;
    all.copy_from_slice(text);
    let mut length = all.len();
    for _ in 0..2 {
        length = unescape(&mut all[..length]);
    }
    all[..length].make_ascii_lowercase();
    Some(&all[..length])
}

/// Undoes `%` and two digits in place; the new length.
fn unescape(text: &mut [u8]) -> usize {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        let escaped = match text[from..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        text[to] = escaped.unwrap_or(text[from]);
        from += if escaped.is_some() { 3 } else { 1 };
        to += 1;
    }
    to
}

/// Parts of names.
const WORDS: [&[u8]; 12] = [
    b"pass",
    b"pwd",
    b"token",
    b"canary",
    b"secret",
    b"auth",
    b"session",
    b"ticket",
    b"assertion",
    b"saml",
    b"credential",
    b"cookie",
];

/// Whole names.
const NAMES: [&[u8]; 7] = [b"code", b"key", b"nonce", b"pin", b"sid", b"sig", b"state"];

/// Longest name or value that is looked into, in bytes; longer values are masked, too.
const LOOKED_AT: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str) -> String {
        let mut out = Vec::new();
        query(text.as_bytes(), |part| out.extend_from_slice(part));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_that_may_be_secrets_are_masked() {
        for (text, shown) in [
            ("", ""),
            (
                "Cmd=Ping&User=ann&DeviceId=AB12&DeviceType=iPhone",
                "Cmd=Ping&User=ann&DeviceId=AB12&DeviceType=iPhone",
            ),
            ("mailboxId=9c0e@example.test", "mailboxId=9c0e@example.test"),
            ("X-OWA-CANARY=abc.def&ae=Item", "X-OWA-CANARY=***&ae=Item"),
            ("id=7&token=eyJ0eXAi&isImagePreview=True", "id=7&token=***&isImagePreview=True"),
            ("id=7&x=eyJ0eXAiOiJKV1Qi", "id=7&x=***"),
            ("Password=geheim", "Password=***"),
            ("t%6fken=a&%2574oken=b", "t%6fken=***&%2574oken=***"),
            ("url=https%3a%2f%2fmail.example.test%2fowa%2f%3fcanary%3da", "url=***"),
            (
                "url=https%3a%2f%2fmail.example.test%2fowa%2f&replaceCurrent=1",
                "url=https%3a%2f%2fmail.example.test%2fowa%2f&replaceCurrent=1",
            ),
            ("code=4/abc&state=x&keyword=y", "code=***&state=***&keyword=y"),
            ("=a&b=&c", "=a&b=&c"),
        ] {
            assert_eq!(masked(text), shown, "{text}");
        }
        let long = "v=".to_owned() + &"a".repeat(LOOKED_AT + 1);
        assert_eq!(masked(&long), "v=***");
    }

    #[test]
    fn a_referrer_is_masked_alike_and_has_no_password() {
        for (url, shown) in [
            ("https://mail.example.test/owa/", "https://mail.example.test/owa/"),
            (
                "https://ann:geheim@mail.example.test/owa/?token=a&b=1",
                "https://mail.example.test/owa/?token=***&b=1",
            ),
            ("https://a@b@c.test", "https://c.test"),
            ("https://c.test/a@b#token=x", "https://c.test/a@b#token=***"),
            ("@", "@"),
        ] {
            let mut out = Vec::new();
            referrer(url.as_bytes(), |part| out.extend_from_slice(part));
            assert_eq!(String::from_utf8(out).unwrap(), shown);
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_secret_name_shows_its_value(letters in proptest::collection::vec((0..3u8, any::<bool>()), 5)) {
            let spelled = |(byte, (way, upper)): (u8, &(u8, bool))| {
                let byte = if *upper { byte.to_ascii_uppercase() } else { byte };
                match way {
                    0 => char::from(byte).to_string(),
                    1 => format!("%{byte:02x}"),
                    _ => format!("%25{byte:02X}"),
                }
            };
            let name: String = b"token".iter().copied().zip(&letters).map(spelled).collect();
            prop_assert_eq!(masked(&format!("a=1&{name}=hidden")), format!("a=1&{name}=***"));
        }
    }
}
