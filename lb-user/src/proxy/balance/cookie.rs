//! Reads cookies by name, as RFC 6265, section 5.4 has browsers write them. Pure; it costs time in proportion to the fields,
//! whose length the framing bounds.

use crate::proxy::http1::{Head, Known};

/// The values of the cookies of that name, in order. What is not `name=value` is passed over; names are compared with case.
pub fn values<'a>(head: &'a Head, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = head.values(Known::Cookie).flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let (found, value) = split_once(pair, b'=')?;
        (found.trim_ascii() == name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The bytes before and after the first `at`.
pub fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..position], &bytes[position + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_name() {
        for (fields, wanted) in [
            (&["a=1"][..], &["1"][..]),
            (&["b=2; a=1; c=3"], &["1"]),
            (&["b=2;a=1;c=3"], &["1"]),
            (&["b=2", "a=1"], &["1"]),
            (&["a=1; a=2", "a=3"], &["1", "2", "3"]),
            (&["a=x=y"], &["x=y"]),
            (&["a="], &[""]),
            (&[" \ta = 1 "], &["1"]),
            (&["A=1; aa=1; a; =1;; ;=;a\u{e9}=1"], &[]),
            (&[""], &[]),
            (&[], &[]),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| ("Cookie", *field)).collect();
            let head = Head::of_request("/", &fields);
            let found: Vec<_> = values(&head, "a").map(|value| str::from_utf8(value).unwrap()).collect();
            assert_eq!(found, wanted, "{fields:?}");
        }
    }
}
