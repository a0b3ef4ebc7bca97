//! What the kernel's own socket table has for a packet: the only record of connections that there is.

use core::mem::zeroed;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, tcphdr};
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_request_sock, bpf_tcp_check_syncookie,
};
use aya_ebpf::programs::XdpContext;
use lb_common::packet::{Ipv4, Tcp, TcpFlags};
use lb_common::verdict::LocalSocket;

use crate::maps;
use crate::packet::XdpPacket;

/// What this network namespace has for the packet's addresses and ports.
#[inline(always)]
pub(crate) fn local(ctx: &XdpContext, ip: &Ipv4, tcp: &Tcp) -> LocalSocket {
    match Socket::find(ctx, ip, tcp) {
        Some(socket) => socket.describe(ctx, ip, tcp),
        None => LocalSocket::None,
    }
}

/// A socket that the kernel counts a reference on; released when dropped, as the verifier demands on every path.
struct Socket(*mut bpf_sock);

impl Socket {
    #[inline(always)]
    fn find(ctx: &XdpContext, ip: &Ipv4, tcp: &Tcp) -> Option<Self> {
        const TUPLE_LEN: u32 = 12;
        // SAFETY: a union of integers, for which zero is a value.
        let mut tuple: bpf_sock_tuple = unsafe { zeroed() };
        tuple.__bindgen_anon_1.ipv4.saddr = u32::from_ne_bytes(ip.source);
        tuple.__bindgen_anon_1.ipv4.daddr = u32::from_ne_bytes(ip.destination);
        tuple.__bindgen_anon_1.ipv4.sport = tcp.source_port.to_be();
        tuple.__bindgen_anon_1.ipv4.dport = tcp.destination_port.to_be();
        // SAFETY: the context is the one that this program was called with; the tuple lives through the call and is
        // longer than the length of an IPv4 tuple.
        let socket = unsafe {
            bpf_skc_lookup_tcp(ctx.as_ptr(), &mut tuple, TUPLE_LEN, BPF_F_CURRENT_NETNS as i64 as u64, 0)
        };
        // Not then_some: it would make, and drop, a Socket of null too.
        if socket.is_null() { None } else { Some(Self(socket)) }
    }

    #[inline(always)]
    fn describe(&self, ctx: &XdpContext, ip: &Ipv4, tcp: &Tcp) -> LocalSocket {
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
    fn cookie_is_ours(&self, ctx: &XdpContext, ip: &Ipv4, tcp: &Tcp) -> bool {
        const IP_LEN: usize = 20;
        const TCP_LEN: usize = 20;
        let packet = XdpPacket::new(ctx);
        let (Some(ip), Some(tcp)) = (packet.at(ip.offset, IP_LEN), packet.at(tcp.offset, TCP_LEN)) else {
            return false;
        };
        // SAFETY: the socket is held; both pointers have the stated number of bytes before data_end.
        let checked = unsafe {
            bpf_tcp_check_syncookie(
                self.0.cast(),
                ip.cast(),
                IP_LEN as u32,
                tcp.cast::<tcphdr>(),
                TCP_LEN as u32,
            )
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
