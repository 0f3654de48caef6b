// Checks the custom resources among rendered manifests (files named as arguments) against their CRDs' schemas.
// Ends with 1 if one is wrong, or if a kind that was to be checked is nowhere.
import { readFileSync } from "node:fs";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import yaml from "yaml";

const kinds = { PodMonitor, PrometheusRule, ScaledObject };
const seen = {};
let wrong = 0;

for (const file of process.argv.slice(2)) {
  for (const document of yaml.parseAllDocuments(readFileSync(file, "utf8"))) {
    const object = document.toJS();
    const Kind = kinds[object?.kind];
    if (!Kind) continue;
    try {
      new Kind(object).validate();
      seen[object.kind] = (seen[object.kind] ?? 0) + 1;
    } catch (error) {
      wrong += 1;
      console.error(`${file}: ${object.kind} ${object.metadata.name}: ${error.message}`);
    }
  }
}
// the checker itself: a wrong object must not pass
try {
  new PodMonitor({ metadata: { name: "x" }, spec: { selector: "wrong" } }).validate();
  console.error("the checker passes a wrong PodMonitor");
  wrong += 1;
} catch {
  // refused, as it must be
}
for (const kind of Object.keys(kinds).filter((name) => !seen[name])) {
  console.error(`no ${kind} was rendered by any of the values files`);
  wrong += 1;
}
console.log(`custom resources: ${JSON.stringify(seen)}`);
process.exit(wrong ? 1 : 0);
