//! Where a field lies in one of the running kernel's structures, from the kernel's own type information (BTF). A pure
//! parser: any bytes give an answer or an error, never a panic. It knows only as much of the format as that question needs
//! (Linux, Documentation/bpf/btf.rst).

/// Why a field was not found; nothing was changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no BTF of this machine's byte order.
    #[error("the kernel's type information is not BTF")]
    NotBtf,
    /// The BTF ends early or points outside itself.
    #[error("the kernel's type information is damaged")]
    Damaged,
    /// It has no such field.
    #[error("the kernel's type information has no field `{field}` in `struct {structure}`")]
    NoField {
        /// The structure's name.
        structure: String,
        /// The field's name.
        field: String,
    },
}

/// The offset in bytes of `field` in `struct structure`.
pub fn field_offset(btf: &[u8], structure: &str, field: &str) -> Result<u32, Error> {
    let btf = Btf::parse(btf)?;
    let mut at = 0;
    while at < btf.types.len() {
        let kind = Type::parse(btf.types, at)?;
        if kind.kind == KIND_STRUCT
            && btf.string(kind.name) == Some(structure.as_bytes())
            && let Some(offset) = btf.offset_in(&kind, field)?
        {
            return Ok(offset);
        }
        at = kind.end;
    }
    Err(Error::NoField { structure: structure.to_owned(), field: field.to_owned() })
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        const MAGIC: u16 = 0xeb9f;
        let magic = bytes.first_chunk::<2>().ok_or(Error::NotBtf)?;
        if u16::from_ne_bytes(*magic) != MAGIC {
            return Err(Error::NotBtf);
        }
        let header = word(bytes, 4)?;
        Ok(Self {
            types: section(bytes, header, word(bytes, 8)?, word(bytes, 12)?)?,
            strings: section(bytes, header, word(bytes, 16)?, word(bytes, 20)?)?,
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        rest.split(|&byte| byte == 0).next()
    }

    fn offset_in(&self, structure: &Type, field: &str) -> Result<Option<u32>, Error> {
        const MEMBER_LEN: usize = 12;
        for member in 0..structure.members {
            let at = structure.body + member * MEMBER_LEN;
            if self.string(word(self.types, at)?) == Some(field.as_bytes()) {
                let bits = word(self.types, at + 8)?;
                // With the flag, the upper byte is a bit field's size.
                let bits = if structure.flag { bits & 0x00ff_ffff } else { bits };
                return Ok(Some(bits / 8));
            }
        }
        Ok(None)
    }
}

/// One entry of the type section.
struct Type {
    name: u32,
    kind: u32,
    flag: bool,
    members: usize,
    /// Where what follows the fixed part begins, and where the next entry does.
    body: usize,
    end: usize,
}

impl Type {
    fn parse(types: &[u8], at: usize) -> Result<Self, Error> {
        const FIXED_LEN: usize = 12;
        let info = word(types, at + 4)?;
        let members = (info & 0xffff) as usize;
        let kind = (info >> 24) & 0x1f;
        let body_len = match kind {
            // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
            2 | 7..=12 | 16 | 18 => 0,
            // Integer, variable, declaration tag.
            1 | 14 | 17 => 4,
            // Array.
            3 => 12,
            // Enumeration, function prototype.
            6 | 13 => members * 8,
            // Structure, union, data section, 64-bit enumeration.
            KIND_STRUCT | 5 | 15 | 19 => members * 12,
            _ => return Err(Error::Damaged),
        };
        Ok(Self {
            name: word(types, at)?,
            kind,
            flag: info >> 31 == 1,
            members,
            body: at + FIXED_LEN,
            end: at + FIXED_LEN + body_len,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let rest = bytes.get(at..).ok_or(Error::Damaged)?;
    let word = rest.first_chunk::<4>().ok_or(Error::Damaged)?;
    Ok(u32::from_ne_bytes(*word))
}

fn section(bytes: &[u8], header: u32, offset: u32, len: u32) -> Result<&[u8], Error> {
    let start = header as usize + offset as usize;
    bytes.get(start..start + len as usize).ok_or(Error::Damaged)
}

const KIND_STRUCT: u32 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_a_field_behind_other_types() {
        assert_eq!(field_offset(&sample(), "tcp_request_sock", "snt_isn"), Ok(24));
    }

    #[test]
    fn names_what_it_does_not_find() {
        let error = field_offset(&sample(), "tcp_request_sock", "nothing").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel's type information has no field `nothing` in `struct tcp_request_sock`"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = field_offset(&bytes, "a", "b");
        }

        #[test]
        fn no_damage_panics(at in 0usize..200, byte: u8, len in 0usize..200) {
            let mut bytes = sample();
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
            bytes.truncate(len);
            let _ = field_offset(&bytes, "tcp_request_sock", "snt_isn");
        }
    }

    /// An integer, an array and a structure of two fields, as the compiler would write them.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0tcp_request_sock\0req\0snt_isn\0";
        let integer = [1, 1 << 24, 4, 32];
        let array = [0, 3 << 24, 0, 1, 1, 6];
        let structure = [5, (KIND_STRUCT << 24) | 2, 28];
        let fields = [22, 2, 0, 26, 1, 24 * 8];
        let types: Vec<u32> = [&integer[..], &array, &structure, &fields].concat();
        let types_len = types.len() as u32 * 4;
        let mut bytes = vec![];
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for number in [24, 0, types_len, types_len, strings.len() as u32] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }
}
