//! What the kernel's own socket table has for a packet: the only record of connections that there is.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2, tcphdr,
};
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_request_sock, bpf_tcp_check_syncookie,
};
use aya_ebpf::programs::XdpContext;
use lb_common::address::Address;
use lb_common::packet::{self, Ip, Ipv6Head, Packet as _, Tcp, TcpFlags, protocol};
use lb_common::verdict::LocalSocket;

use crate::maps;
use crate::packet::XdpPacket;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// What this network namespace has for the packet's addresses and ports.
#[inline(always)]
pub(crate) fn local(ctx: &XdpContext, ip: &Ip, tcp: &Tcp) -> LocalSocket {
    look_up(ctx, ip.offset, ip.destination.v6, tcp.offset)
}

/// The same, of the packet with these headers. Rare, so it is not inlined; and it reads the headers again, because arguments in
/// memory would be there in the steady state too.
#[cold]
#[inline(never)]
fn look_up(ctx: &XdpContext, ip: usize, v6: bool, tcp: usize) -> LocalSocket {
    let Some((ip, tcp)) = read(&XdpPacket::new(ctx), ip, v6, tcp) else {
        return LocalSocket::None;
    };
    match Socket::find(ctx, &ip, &tcp) {
        Some(socket) => socket.describe(ctx, &ip, &tcp),
        None => LocalSocket::None,
    }
}

#[inline(always)]
fn read(packet: &XdpPacket, offset: usize, v6: bool, payload: usize) -> Option<(Ip, Tcp)> {
    let (source, destination) = if v6 {
        let head = Ipv6Head::read(packet, offset)?;
        (head.source(), head.destination())
    } else {
        let [a, b, c, d, e, f, g, h] = packet.get(offset + 12)?;
        (Address::v4([a, b, c, d]), Address::v4([e, f, g, h]))
    };
    let (protocol, payload_len, later_fragment) = (protocol::TCP, usize::MAX, false);
    let ip = Ip { offset, source, destination, protocol, payload, payload_len, later_fragment };
    let tcp = packet::tcp(packet, &ip).ok()?;
    Some((ip, tcp))
}

/// Writes down the packet's addresses and ports for the kernel, and gives the length of that.
#[inline(always)]
fn describe(ip: &Ip, tcp: &Tcp) -> (bpf_sock_tuple, u32) {
    const V4_LEN: u32 = 12;
    const V6_LEN: u32 = 36;
    let (sport, dport) = (tcp.ports.source.to_be(), tcp.ports.destination.to_be());
    let v6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
        saddr: words(&ip.source),
        daddr: words(&ip.destination),
        sport,
        dport,
    };
    // Over the longer one, so that every byte is written and none by a loop.
    let mut tuple = bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv6: v6 } };
    if ip.destination.v6 {
        return (tuple, V6_LEN);
    }
    tuple.__bindgen_anon_1.ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
        saddr: ip.source.low as u32,
        daddr: ip.destination.low as u32,
        sport,
        dport,
    };
    (tuple, V4_LEN)
}

/// An IPv6 address as the kernel has it: words of 32 bits, in the order of memory.
#[inline(always)]
fn words(address: &Address) -> [u32; 4] {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = address.v6_bytes();
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

/// A socket that the kernel counts a reference on; released when dropped, as the verifier demands on every path.
struct Socket(*mut bpf_sock);

impl Socket {
    #[inline(always)]
    fn find(ctx: &XdpContext, ip: &Ip, tcp: &Tcp) -> Option<Self> {
        let (tuple, length) = describe(ip, tcp);
        // SAFETY: the context is the one that this program was called with; the tuple lives through the call and is at least
        // as long as the length of its family's.
        let socket = unsafe {
            bpf_skc_lookup_tcp(
                ctx.as_ptr(),
                (&raw const tuple).cast_mut(),
                length,
                BPF_F_CURRENT_NETNS as i64 as u64,
                0,
            )
        };
        // Not then_some: it would make, and drop, a Socket of null too.
        if socket.is_null() { None } else { Some(Self(socket)) }
    }

    #[inline(always)]
    fn describe(&self, ctx: &XdpContext, ip: &Ip, tcp: &Tcp) -> LocalSocket {
        // The numbers of the kernel's include/net/tcp_states.h, which bpf.h repeats for programs.
        const TIME_WAIT: u32 = 6;
        const LISTEN: u32 = 10;
        const NEW_SYN_RECV: u32 = 12;
        // SAFETY: `find` keeps only pointers that are not null, and the reference still counts.
        let state = unsafe { (*self.0).state };
        match state {
            TIME_WAIT => LocalSocket::TimeWait,
            LISTEN => LocalSocket::Listener {
                cookie_ok: tcp.flags.any(TcpFlags::ACK) && self.cookie_is_ours(ctx, ip, tcp),
            },
            NEW_SYN_RECV => {
                LocalSocket::HalfOpen { ack_ok: tcp.flags.any(TcpFlags::ACK) && self.confirms(tcp) }
            }
            _ => LocalSocket::Open,
        }
    }

    /// Whether the packet acknowledges a SYN cookie that this listener could have sent.
    #[inline(always)]
    fn cookie_is_ours(&self, ctx: &XdpContext, ip: &Ip, tcp: &Tcp) -> bool {
        const TCP_LEN: usize = 20;
        let packet = XdpPacket::new(ctx);
        let Some(tcp) = packet.at(tcp.offset, TCP_LEN) else {
            return false;
        };
        // The length tells the helper the family, and has to be known to the verifier.
        if ip.destination.v6 {
            packet.at(ip.offset, IPV6_LEN).is_some_and(|ip| self.checks_cookie(ip, IPV6_LEN, tcp))
        } else {
            packet.at(ip.offset, IPV4_LEN).is_some_and(|ip| self.checks_cookie(ip, IPV4_LEN, tcp))
        }
    }

    #[inline(always)]
    fn checks_cookie(&self, ip: *mut u8, ip_len: usize, tcp: *mut u8) -> bool {
        const TCP_LEN: u32 = 20;
        // SAFETY: the socket is held; both pointers have the stated number of bytes before data_end.
        let checked = unsafe {
            bpf_tcp_check_syncookie(self.0.cast(), ip.cast(), ip_len as u32, tcp.cast::<tcphdr>(), TCP_LEN)
        };
        checked == 0
    }

    /// Whether the packet acknowledges the SYN-ACK that belongs to this very request.
    #[inline(always)]
    fn confirms(&self, tcp: &Tcp) -> bool {
        // SAFETY: the socket is held; the helper answers null for one that is no TCP request.
        let request = unsafe { bpf_skc_to_tcp_request_sock(self.0.cast()) };
        if request.is_null() {
            return false;
        }
        let offset = maps::config().snt_isn_offset as usize;
        let snt_isn = request.cast::<u8>().wrapping_add(offset).cast::<u32>();
        // SAFETY: the helper copies from any kernel address and fails where there is nothing; the offset is that of this
        // kernel's own type information.
        let snt_isn = unsafe { bpf_probe_read_kernel(snt_isn.cast_const()) };
        snt_isn.is_ok_and(|isn| isn.wrapping_add(1) == tcp.acknowledgement)
    }
}

impl Drop for Socket {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the pointer came from the look-up, which took the reference that is given back here, once.
        unsafe { bpf_sk_release(self.0.cast()) };
    }
}
