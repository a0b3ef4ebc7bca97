//! What the lab and the benches attach beside the program: an object of its own, which `rollcall` does not carry.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "on the host nothing calls the programs"))]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Lets everything pass. The lab's switches have it: `XDP_TX` on a veth reaches only a peer that has a program too. And the
/// bench measures the other program against it.
#[xdp(frags)]
pub(crate) fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Lets nothing pass: the least that a frame can cost on its way to a verdict.
#[xdp(frags)]
pub(crate) fn discard(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// Sends the frame that it is given, TCP or UDP over IPv4 without options or IPv6 without extension headers, from another client
/// each time: random are the last two bytes of the source address and the source port, and the checksums stay right.
#[xdp]
pub(crate) fn flood(ctx: XdpContext) -> u32 {
    const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
    const UDP: u8 = 17;
    let sent = match read::<2>(&ctx, 12) {
        Some(ETHERTYPE_IPV6) => match read::<2>(&ctx, 20) {
            Some([UDP, _]) => vary(&ctx, 36, 54, 60),
            _ => vary(&ctx, 36, 54, 70),
        },
        _ => match read::<2>(&ctx, 22) {
            Some([_, UDP]) => vary(&ctx, 28, 34, 40),
            _ => vary(&ctx, 28, 34, 50),
        },
    };
    if sent.is_some() { XDP_TX } else { XDP_DROP }
}

/// Changes the two bytes of the address and of the port at these offsets, and the checksums of IPv4 and of the protocol.
#[inline(always)]
fn vary(ctx: &XdpContext, address: usize, port: usize, checksum: usize) -> Option<()> {
    const IPV4_ADDRESS: usize = 28;
    const IPV4_CHECKSUM: usize = 24;
    // SAFETY: the helper takes nothing and has no effect.
    let random = unsafe { bpf_get_prandom_u32() };
    let [a, b, c, d] = random.to_ne_bytes();
    // Not below 1024, and a host's address.
    let (new_address, new_port) = ([a, b | 1], [c | 4, d]);
    let (old_address, old_port) = (read(ctx, address)?, read(ctx, port)?);
    write(ctx, address, new_address)?;
    write(ctx, port, new_port)?;
    if address == IPV4_ADDRESS {
        let header = update(read(ctx, IPV4_CHECKSUM)?, [old_address], [new_address]);
        write(ctx, IPV4_CHECKSUM, header)?;
    }
    write(ctx, checksum, update(read(ctx, checksum)?, [old_address, old_port], [new_address, new_port]))
}

/// A checksum after some of the bytes that it covers have changed (RFC 1624, equation 3).
#[inline(always)]
fn update<const N: usize>(checksum: [u8; 2], old: [[u8; 2]; N], new: [[u8; 2]; N]) -> [u8; 2] {
    let mut sum = !u16::from_be_bytes(checksum) as u32;
    for (old, new) in old.into_iter().zip(new) {
        sum += !u16::from_be_bytes(old) as u32 + u16::from_be_bytes(new) as u32;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

#[inline(always)]
fn read<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the context is the one that this program was called with; the helper checks the frame's bounds and writes N bytes.
    let failed = unsafe { bpf_xdp_load_bytes(ctx.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(bytes)
}

#[inline(always)]
fn write<const N: usize>(ctx: &XdpContext, offset: usize, mut bytes: [u8; N]) -> Option<()> {
    // SAFETY: the context is the one that this program was called with; the helper checks the frame's bounds and reads N bytes.
    let failed = unsafe { bpf_xdp_store_bytes(ctx.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(())
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
