//! Two neighbouring versions of the program in one cluster, which is upgraded node by node.

use super::*;

/// Has the program play the next version of itself: format level 2, and one more step of the schema.
const NEXT: (&str, &str) = ("OPENHGS_TEST_PLAYS_NEXT_VERSION", "1");

impl Machine {
    fn serve_next(&self) -> Served {
        Served::launch(&self.home, "hgs.toml", &[NEXT])
    }

    /// A group with a name that the earlier version can't read.
    fn use_feature(&self) -> Outcome {
        self.hgs("host-group new rack+1")
    }

    /// By name, what the status says of nodes.
    fn told(cluster: &Value, field: &str) -> Vec<Value> {
        let nodes = cluster["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node[field].clone()).collect()
    }
}

#[test]
fn nodes_are_upgraded_one_after_the_other() {
    let machines = ["n1", "n2", "n3", "n4"].map(Machine::new);
    let [first, second, third, fourth] = &machines;
    let mut served = vec![first.found()];
    served.push(second.join_by(first));
    served.push(third.join_by(second));
    let all = [first, second, third];
    for (place, machine) in all.into_iter().enumerate() {
        let (other, host) = (
            all[(place + 1) % 3],
            format!("while-{}-is-away", machine.name),
        );
        served.remove(place).stop();
        other.add_host(&host);
        served.insert(place, machine.serve_next());
        let upgraded = machine.until("its version is known", |cluster| {
            cluster["nodes"][place]["version"] == "0.2.0" && cluster["nodes"][place]["lag"] == 0
        });
        for node in all {
            node.knows_host(&host);
        }
        if place == 2 {
            break;
        }
        assert_eq!(Machine::told(&upgraded, "level"), [1, 1, 1], "{upgraded}");
        let waits_for: Vec<_> = ["n2", "n3"][place..].to_vec();
        assert_eq!(
            upgraded["upgrade"],
            json!({"level": 2, "version": "0.2.0", "waits_for": waits_for})
        );
        machine
            .use_feature()
            .ended(2)
            .saying("needs format level 2")
            .saying("the node n3 runs 0.1.0; install hgs 0.2.0 on n3 first");
        machine.hgs("cluster status").done().saying(format!(
            "level 2 waits until hgs 0.2.0 runs on {}.",
            waits_for.join(", ")
        ));
        machine.traced("what the level waits for is told", |report| {
            let of_cluster = judged_of_cluster(report);
            let told = of_cluster.iter().filter(|(id, ..)| *id == "HGS-Q012");
            told.copied()
                .eq(waits_for.iter().map(|node| ("HGS-Q012", *node, "warning")))
        });
    }
    third.until("all are at level 2", |cluster| {
        Machine::told(cluster, "level") == [2, 2, 2] && cluster["upgrade"] == Value::Null
    });
    first.use_feature().done();
    for machine in all {
        while !machine.hgs("host-group list").done().out.contains("rack+1") {}
    }
    let logs = all.map(|machine| machine.hgs("audit list --limit 100 --json").done().out);
    assert!(logs[0] == logs[1] && logs[0] == logs[2]);
    assert_eq!(logs[0].matches("\"raise-level\"").count(), 1);
    let deadline = Instant::now() + PATIENCE;
    let shown = || {
        let metrics = served[1].metrics();
        metrics.contains("hgs_cluster_format_level 2") && metrics.contains("version=\"0.2.0\"")
    };
    while !shown() {
        assert!(Instant::now() < deadline, "{}", served[1].metrics());
    }
    let (metrics, page) = (
        served[1].metrics(),
        include_str!("../../../../docs/metrics.md"),
    );
    let of_cluster = page.lines().filter(|row| row.contains("| in a cluster"));
    for row in of_cluster {
        let name = row.split('`').nth(1).unwrap();
        assert!(
            metrics.contains(&format!("# TYPE {name} ")),
            "{name} is not in:\n{metrics}"
        );
    }
    assert!(metrics.contains("{use=\"cluster\","), "{metrics}");

    // The earlier version reads none of it, and is told nothing.
    let (_, log) = served.remove(1).stop();
    assert_eq!(
        log.matches("a newer level of the format").count(),
        1,
        "{log}"
    );
    second
        .hgs("serve")
        .ended(1)
        .saying("format level 2, which hgs 0.2.0 introduced")
        .saying("install hgs 0.2.0 here");
    served.insert(1, second.serve_next());
    second.knows_host("while-n3-is-away");
    fourth
        .join(&first.invitation())
        .ended(1)
        .saying("hgs 0.1.0 reads level 1")
        .saying("install hgs 0.2.0");
    assert!(!fourth.home.file("guardian/master.key").exists());
}
