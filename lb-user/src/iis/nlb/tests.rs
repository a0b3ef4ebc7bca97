//! What each tool prints, and what it means.

use super::*;

fn read_all(texts: &[&str]) -> (Nlb, Vec<Finding>) {
    let mut nlb = Nlb::default();
    let findings = texts.iter().flat_map(|text| read(text, &mut nlb)).collect();
    (nlb, findings)
}

const TABLES: &str = "PS C:\\> Get-NlbCluster\n\n\
Name             IPAddress    SubnetMask    Mode\n\
----             ---------    ----------    ----\n\
mail.example.test 192.168.50.8 255.255.255.0 MULTICAST\n\n\
Name State              Interface HostID\n\
---- -----              --------- ------\n\
ARR1 Converged(default) DMZ       1\n\
ARR2 Converged          DMZ       2\n\n\
IPAddress State     Start     End       Protocol  Mode      Affinity  Timeout\n\
--------- -----     -----     ---       --------  ----      --------  -------\n\
All       Enabled   443       443       Tcp       Multiple  None      0\n\
All       Enabled   80        80        Tcp       Multiple  Single    20\n";

#[test]
fn tables_of_powershell_give_cluster_hosts_and_rules() {
    let (nlb, findings) = read_all(&[TABLES]);
    assert_eq!(
        (nlb.ips, nlb.prefix, nlb.mode),
        (vec!["192.168.50.8".parse().unwrap()], Some(24), Some("multicast"))
    );
    let hosts: Vec<_> = nlb.nodes.iter().map(|host| (host.priority, host.name.as_str())).collect();
    assert_eq!(hosts, [(1, "arr1"), (2, "arr2")]);
    let rules: Vec<_> =
        nlb.rules.iter().map(|r| (r.first, r.last, r.protocol, r.filtering, r.affinity, r.timeout)).collect();
    assert_eq!(rules, [(443, 443, "tcp", "multiple", "none", 0), (80, 80, "tcp", "multiple", "single", 20)]);
    assert!(findings.iter().all(|finding| finding.became.as_str() != "refused"), "{findings:?}");
}

const PARAMS: &str = "Cluster 192.168.50.8\nHostName                  = arr2.example.test\nHostPriority              = 2\n\
ClusterIPAddress          = 192.168.50.8\nClusterNetworkMask        = 255.255.255.0\nDedicatedIPAddress        = 192.168.50.7\n\
MulticastSupportEnable    = ENABLED\nIGMPSupport               = ENABLED\nAliveMsgPeriod            = 1000\nNumberOfRules (1):\n\n\
\x20     VIP       Start  End  Prot   Mode   Pri Load Affinity\n\
--------------- ----- ----- ---- -------- --- ---- --------\n\
All               443   443 TCP  Multiple      70  Single\n";

#[test]
fn what_nlb_params_prints_of_a_host_is_its_own() {
    let (nlb, findings) = read_all(&[TABLES, PARAMS]);
    assert_eq!(nlb.mode, Some("igmp"));
    assert_eq!(nlb.nodes[1].address, Some("192.168.50.7".parse().unwrap()));
    assert_eq!((nlb.rules.len(), &nlb.rules[0].weights), (2, &vec![(2, 70)]));
    let period = findings.iter().find(|finding| finding.path == "AliveMsgPeriod").unwrap();
    assert_eq!(period.became.as_str(), "unneeded");
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    for (text, line) in [
        ("\nIPAddress : here\n", 2),
        ("IPAddress : 10.0.0.1\nMode : round\n", 2),
        ("IPAddress : 10.0.0.1\nSubnetMask : 255.0.255.0\n", 2),
        ("HostID : 65\n", 1),
        ("Start : 80\nEnd : 99999\nProtocol : Tcp\n", 2),
        ("Start : 80\nEnd : 80\nProtocol : Gre\n", 3),
    ] {
        let (_, findings) = read_all(&[text]);
        let refused: Vec<_> =
            findings.iter().filter(|f| f.became.as_str() == "refused").map(|f| f.line).collect();
        assert_eq!(refused, [line], "{text}: {findings:?}");
    }
}
