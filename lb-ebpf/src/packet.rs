//! The only packet pointers of the program: bounds-checked reads and writes by value.
//!
//! All of it is inlined: the verifier forgets what a packet pointer is when it goes through a function call.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_change_type, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::packet::{Packet, PacketMut};

use crate::maps;

/// No driver's first buffer of several is shorter, so a shorter one is the whole frame, and the kernel need not be asked.
const FIRST_BUFFER: u64 = 256;

/// The linear part of the frame that an XDP program was called with; headers always lie in it.
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// The frame's length, all of its buffers.
    #[inline(always)]
    pub(crate) fn len(&self) -> u64 {
        let linear = (self.ctx.data_end() - self.ctx.data()) as u64;
        if linear < FIRST_BUFFER {
            return linear;
        }
        // SAFETY: the helper takes the context that this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) }
    }

    /// Where the `len` bytes at `offset` lie, if the frame has them. Valid until the program ends.
    #[inline(always)]
    pub(crate) fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // Nothing is looked for further behind (`packet::HEADERS_END`, and the packet that an ICMP error quotes), and the
        // verifier wants a bound.
        if offset > 0x3ff {
            return None;
        }
        let start = load::opaque((self.ctx.data() + offset) as *mut u8);
        (start as usize + len <= self.ctx.data_end()).then_some(start)
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let from = self.at(offset, N)?;
        let mut bytes = [0; N];
        let to = bytes.as_mut_ptr();
        // The rest behind the whole words: 4, 2, 1 bytes.
        let (four, two) = (N & !7, N & !3);
        // SAFETY: `at` found N bytes there between data and data_end, and `bytes` has as many.
        unsafe {
            let mut at = 0;
            while at + 8 <= N {
                to.add(at).cast::<u64>().write_unaligned(load::eight(from.add(at)));
                at += 8;
            }
            if N & 4 != 0 {
                to.add(four).cast::<u32>().write_unaligned(load::four(from.add(four)));
            }
            if N & 2 != 0 {
                to.add(two).cast::<u16>().write_unaligned(load::two(from.add(two)));
            }
            if N & 1 != 0 {
                to.add(N - 1).write(from.add(N - 1).read());
            }
        }
        Some(bytes)
    }
}

impl PacketMut for XdpPacket<'_> {
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
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, by as i32) };
        (failed == 0).then_some(())
    }
}

/// Loads of whole words from anywhere. Packets are not aligned; LLVM's BPF back end would fetch each byte on its own, since it
/// knows no machine that needs no alignment, where the verifier does (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`: x86-64 and
/// arm64 among them). Byte-wise, the headers of one packet cost 15 ns more.
pub(crate) mod load {
    #[cfg(target_arch = "bpf")]
    use core::arch::asm;

    macro_rules! load {
        ($(#[$doc:meta])+ $name:ident, $type:ty, $instruction:literal) => {
            $(#[$doc])+
            ///
            /// # Safety
            /// `from` points to that many bytes that may be read.
            #[inline(always)]
            pub(super) unsafe fn $name(from: *const u8) -> $type {
                #[cfg(target_arch = "bpf")]
                {
                    let word: u64;
                    // SAFETY: one load of the bytes that the caller vouches for; it changes nothing.
                    unsafe {
                        asm!($instruction, word = out(reg) word, from = in(reg) from, options(pure, readonly, nostack));
                    }
                    word as $type
                }
                #[cfg(not(target_arch = "bpf"))]
                // SAFETY: the caller vouches for the bytes; no alignment is needed.
                unsafe {
                    from.cast::<$type>().read_unaligned()
                }
            }
        };
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

    load!(
        /// Two bytes.
        two, u16, "{word} = *(u16 *)({from} + 0)"
    );
    load!(
        /// Four bytes.
        four, u32, "{word} = *(u32 *)({from} + 0)"
    );
    load!(
        /// Eight bytes.
        eight, u64, "{word} = *(u64 *)({from} + 0)"
    );
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
