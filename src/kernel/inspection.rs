//! The rules in force held against the tools that are there, after each change of either.

use std::collections::HashSet;

use crate::base::error::{Error, Kind};
use crate::base::shutdown::Shutdown;
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::gate::Gate;
use crate::kernel::lint::{Finding, Known, Severity, lint_rules, lint_tools};
use crate::kernel::registry::Registry;
use crate::kernel::rule::Rule;

/// Everything that is wrong with these rules.
pub fn inspect(rules: &[Rule], registry: &Registry) -> Vec<Finding> {
    let snapshot = registry.snapshot();
    let tools: Vec<Known> = snapshot
        .tools()
        .map(|tool| Known {
            name: tool.name.shared(),
            plugin: tool.plugin.manifest.id.shared(),
            template: tool.specifier_template.clone(),
        })
        .collect();
    let mut found = lint_rules(rules);
    found.extend(lint_tools(rules, &tools));
    found
}

/// Everything that is wrong with the rules in force.
pub fn inspect_all(gate: &Gate, registry: &Registry) -> Vec<Finding> {
    inspect(gate.rulebook().policy().rules.rules(), registry)
}

/// Records what is wrong now and after each change of the plugins: each error once among the errors, each warning once in
/// the log. To be called when all plugins are loaded, with a tokio runtime around the caller.
pub fn start(gate: &Gate, registry: &Registry, shutdown: &Shutdown) {
    let (gate, registry, stop) = (gate.clone(), registry.clone(), shutdown.clone());
    let mut changes = registry.changes();
    changes.mark_unchanged();
    let mut told = HashSet::new();
    tell(&gate, &registry, &mut told);
    shutdown.spawn("rules", async move {
        loop {
            tokio::select! {
                () = stop.stopping() => return,
                Ok(()) = changes.changed() => tell(&gate, &registry, &mut told),
            }
        }
    });
}

fn tell(gate: &Gate, registry: &Registry, told: &mut HashSet<String>) {
    for finding in inspect_all(gate, registry) {
        let line = finding.line();
        if !told.insert(line.clone()) {
            continue;
        }
        match finding.severity {
            Severity::Warning => tracing::warn!("{line}"),
            Severity::Error => {
                tracing::error!("{line}");
                let error = Error::new(Kind::Invalid, line);
                registry.record(PluginError::new(finding.place, None, Stage::Read, &error));
            }
        }
    }
}
