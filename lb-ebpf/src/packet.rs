//! The only packet pointers of the program: bounds-checked reads and writes by value.
//!
//! All of it is inlined: the verifier forgets what a packet pointer is when it goes through a function call.

use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_change_type, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::packet::{Packet, PacketMut};

use crate::maps;

/// No driver's first buffer of several is shorter, so a shorter one is the whole frame, and the kernel need not be asked.
const FIRST_BUFFER: u64 = 256;

/// The linear part of the frame that an XDP program was called with; headers always lie in it.
pub(crate) struct XdpPacket {
    ctx: *mut xdp_md,
}

impl XdpPacket {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { ctx: ctx.ctx }
    }

    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the pointer is the context that the program was called with.
        unsafe { load::field::<{ offset_of!(xdp_md, data) }>(self.ctx) }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: the pointer is the context that the program was called with.
        unsafe { load::field::<{ offset_of!(xdp_md, data_end) }>(self.ctx) }
    }

    /// The frame's length, all of its buffers.
    #[inline(always)]
    pub(crate) fn len(&self) -> u64 {
        let linear = (self.data_end() - self.data()) as u64;
        if linear < FIRST_BUFFER {
            return linear;
        }
        // SAFETY: the helper takes the context that this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    /// Where the `len` bytes at `offset` lie, if the frame has them. Valid until the program ends.
    #[inline(always)]
    pub(crate) fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // Nothing is looked for further behind (`packet::HEADERS_END`, and the packet that an ICMP error quotes), and the
        // verifier wants a bound.
        if offset > 0x3ff {
            return None;
        }
        let start = load::opaque((self.data() + offset) as *mut u8);
        (start as usize + len <= self.data_end()).then_some(start)
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let from = self.at(offset, N)?;
        let mut bytes = [0; N];
        let to = bytes.as_mut_ptr();
        macro_rules! copy {
            ($load:ident, $type:ty, $at:expr) => {
                to.add($at).cast::<$type>().write_unaligned(load::$load!(from, $at))
            };
        }
        // SAFETY: `at` found N bytes there between data and data_end, and `bytes` has as many.
        unsafe {
            if N >= 8 {
                copy!(eight, u64, 0);
            }
            if N >= 16 {
                copy!(eight, u64, 8);
            }
            if N >= 24 {
                copy!(eight, u64, 16);
            }
            if N >= 32 {
                copy!(eight, u64, 24);
            }
            if N >= 40 {
                copy!(eight, u64, 32);
            }
            const { assert!(N < 48) };
            // The rest behind the whole words: 4, 2, 1 bytes.
            if N & 4 != 0 {
                copy!(four, u32, N & !7);
            }
            if N & 2 != 0 {
                copy!(two, u16, N & !3);
            }
            if N & 1 != 0 {
                to.add(N - 1).write(from.add(N - 1).read());
            }
        }
        Some(bytes)
    }
}

impl PacketMut for XdpPacket {
    #[inline(always)]
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let to = self.at(offset, N)?.cast::<[u8; N]>();
        // SAFETY: `at` found N bytes there between data and data_end, which an XDP program may write; nothing holds a
        // reference to them, since every read copies.
        unsafe { to.write(bytes) };
        Some(())
    }

    #[inline(always)]
    fn grow(&mut self, by: usize) -> Option<()> {
        // SAFETY: the helper takes the context that this program was called with. It moves the frame's end; pointers into the
        // frame are made anew for every access.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx, by as i32) };
        self.ctx = load::renewed(self.ctx);
        (failed == 0).then_some(())
    }
}

/// Loads of whole words from anywhere. Packets are not aligned; LLVM's BPF back end would fetch each byte on its own, since it
/// knows no machine that needs no alignment, where the verifier does (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`: x86-64 and
/// arm64 among them). Byte-wise, the headers of one packet cost 15 ns more.
pub(crate) mod load {
    #[cfg(target_arch = "bpf")]
    pub(super) use core::arch::asm;

    use aya_ebpf::bindings::xdp_md;
    use lb_common::table::Bucket;

    /// One load of `$type` from `$offset` bytes behind `$from`, where that many bytes may be read.
    macro_rules! load {
        ($type:ty, $instruction:literal, $from:expr, $offset:expr) => {{
            #[cfg(target_arch = "bpf")]
            let word = {
                let word: u64;
                load::asm!($instruction, word = out(reg) word, from = in(reg) $from, offset = const $offset, options(pure, readonly, nostack));
                word as $type
            };
            #[cfg(not(target_arch = "bpf"))]
            let word = $from.add($offset).cast::<$type>().read_unaligned();
            word
        }};
    }

    macro_rules! eight {
        ($from:expr, $offset:expr) => {
            load::load!(u64, "{word} = *(u64 *)({from} + {offset})", $from, $offset)
        };
    }

    macro_rules! four {
        ($from:expr, $offset:expr) => {
            load::load!(u32, "{word} = *(u32 *)({from} + {offset})", $from, $offset)
        };
    }

    macro_rules! two {
        ($from:expr, $offset:expr) => {
            load::load!(u16, "{word} = *(u16 *)({from} + {offset})", $from, $offset)
        };
    }

    pub(super) use {eight, four, load, two};

    /// A field of the context. LLVM does not know that it is one: it would pass the packet pointers, cut to 32 bits, to functions
    /// that take the context only to read them, and the verifier knows a pointer no longer once it was cut. Nor does it know
    /// that a helper can change it, so `XdpPacket::grow` must make the context anew.
    ///
    /// # Safety
    /// `ctx` is the context that the program was called with.
    #[inline(always)]
    pub(super) unsafe fn field<const OFFSET: usize>(ctx: *mut xdp_md) -> usize {
        #[cfg(target_arch = "bpf")]
        {
            let field: u64;
            // SAFETY: one load from the context; it changes nothing.
            unsafe {
                asm!("{field} = *(u32 *)({ctx} + {offset})", field = out(reg) field, ctx = in(reg) ctx, offset = const OFFSET, options(pure, nomem, nostack));
            }
            field as usize
        }
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: the caller vouches for the context.
        unsafe {
            ctx.byte_add(OFFSET).cast::<u32>().read() as usize
        }
    }

    /// The same bucket, known now. LLVM would hash behind the look-ups, since some paths do not need the bucket, and keep all that
    /// it is made of on the stack until then.
    #[inline(always)]
    pub(crate) fn settled(bucket: Bucket) -> Bucket {
        #[cfg(target_arch = "bpf")]
        {
            let number: u64;
            // SAFETY: one move between registers. Not `pure`, so that it stays where it is.
            unsafe {
                asm!("{same} = {value}", same = out(reg) number, value = in(reg) bucket.index() as u64, options(nomem, nostack));
            }
            Bucket::of_hash(number)
        }
        #[cfg(not(target_arch = "bpf"))]
        bucket
    }

    /// The same context, of which LLVM knows nothing, least of all its fields.
    #[inline(always)]
    pub(super) fn renewed(ctx: *mut xdp_md) -> *mut xdp_md {
        opaque(ctx)
    }

    /// The same value, of which LLVM knows nothing. It would drop a check of bounds that follows from an earlier one, and the
    /// verifier would not see why; or take the read-only data in the object for that in force.
    #[inline(always)]
    pub(crate) fn opaque<T: Copy>(value: T) -> T {
        const { assert!(size_of::<T>() == size_of::<u64>()) };
        #[cfg(target_arch = "bpf")]
        {
            let mut same = core::mem::MaybeUninit::<T>::uninit();
            // SAFETY: one move between registers, of a value with the size of one.
            unsafe {
                let value: u64 = core::mem::transmute_copy(&value);
                asm!("{same} = {value}", same = out(reg) *same.as_mut_ptr().cast::<u64>(), value = in(reg) value, options(pure, nomem, nostack));
                same.assume_init()
            }
        }
        #[cfg(not(target_arch = "bpf"))]
        value
    }

    /// The same value, of which the verifier knows nothing, since it goes through a number that it does not know.
    #[inline(always)]
    pub(crate) fn forget<T: Copy>(value: T, random: u32) -> T {
        const { assert!(size_of::<T>() == size_of::<u64>()) };
        #[cfg(target_arch = "bpf")]
        {
            let mut same = core::mem::MaybeUninit::<T>::uninit();
            // SAFETY: two operations between registers that undo each other, of a value with the size of one.
            unsafe {
                let value: u64 = core::mem::transmute_copy(&value);
                asm!(
                    "{same} ^= {random}",
                    "{same} ^= {random}",
                    same = inout(reg) value => *same.as_mut_ptr().cast::<u64>(),
                    random = in(reg) u64::from(random) * 0x1_0000_0001,
                    options(pure, nomem, nostack)
                );
                same.assume_init()
            }
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            let _ = random;
            value
        }
    }
}

/// Whether the frame is addressed to this interface's own MAC address, yet not taken for this host's.
#[inline(always)]
pub(crate) fn is_misread(ctx: &TcContext) -> bool {
    const PACKET_HOST: u32 = 0;
    // SAFETY: the pointer is the context that this program was called with.
    let pkt_type = unsafe { (*ctx.skb.skb).pkt_type };
    pkt_type != PACKET_HOST && ctx.load::<[u8; 6]>(0) == Ok(maps::config().own_mac)
}

/// Takes the frame for this host's.
#[inline(always)]
pub(crate) fn mark_as_host(ctx: &mut TcContext) {
    const PACKET_HOST: u32 = 0;
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: the pointer is the context that this program was called with. The helper refuses a type that it does not
    // know, and then the frame stays as it was.
    unsafe { bpf_skb_change_type(skb, PACKET_HOST) };
}
