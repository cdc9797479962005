// Checks the custom resources in JSON on standard input; prints what is wrong with each, or "ok".
import { readFileSync } from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1";
import { PodMonitor, PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const KINDS = { PodMonitor, PrometheusRule, ScaledObject };
for (const found of JSON.parse(readFileSync(0))) {
  try {
    new KINDS[found.kind](found).validate();
    console.log("ok");
  } catch (error) {
    console.log(`${found.kind}: ${error.message}`);
  }
}
