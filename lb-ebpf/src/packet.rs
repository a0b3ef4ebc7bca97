//! The only packet pointers of the program: bounds-checked reads and writes by value.
//!
//! All of it is inlined: the verifier forgets what a packet pointer is when it goes through a function call.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_change_type;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::packet::{Packet, PacketMut};

use crate::maps;

/// The linear part of the frame that an XDP program was called with; headers always lie in it.
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Where the `len` bytes at `offset` lie, if the frame has them. Valid until the program ends.
    #[inline(always)]
    pub(crate) fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // No frame is longer, and the verifier wants a bound.
        if offset > 0x1ff {
            return None;
        }
        let start = self.ctx.data() + offset;
        (start + len <= self.ctx.data_end()).then_some(start as *mut u8)
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let from = self.at(offset, N)?.cast::<[u8; N]>();
        // SAFETY: `at` found N bytes there between data and data_end; a byte array needs no alignment.
        Some(unsafe { from.read() })
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
