// What every JavaScript program of the matrix has: where the gateway is, pictures, and how a case is told.
export const { BASE_URL: URL_, MODEL, API_KEY: KEY, STAR, CIRCLE, AWAY_URL: AWAY, LIMITED_KEY: LIMITED } = process.env;
export const QUESTION = "What is in the image?";
export const ANSWER = "A red star.";

export const asked = (text = QUESTION, url = STAR) => ({
  role: "user",
  content: [
    { type: "image_url", image_url: { url } },
    { type: "text", text },
  ],
});

export function expect(told, wanted) {
  if (told !== wanted) throw new Error(`got ${JSON.stringify(told)}; wanted ${JSON.stringify(wanted)}`);
}

export async function rejects(check, call) {
  try {
    await call();
  } catch (error) {
    if (check(error)) return;
    throw error;
  }
  throw new Error("nothing was thrown");
}

// With the key LIMITED, the second call within a minute is one too many.
export async function twice(call) {
  await call();
  await call();
}

// Expect the gateway to see a client leave in `work`, and to run nothing within 2 s of its end.
export async function leaving(work) {
  const left = await metric("gateway_clients_left_total");
  await work();
  const deadline = Date.now() + 2000;
  for (;;) {
    const gone = (await metric("gateway_clients_left_total")) - left;
    const running = (await metric("gateway_in_flight")) + (await metric("vllm:num_requests_running"));
    if (gone === 1 && running === 0) return;
    if (Date.now() > deadline) throw new Error(`${running} jobs run 2 s after the client left; ${gone} left`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// The gateway's metric of that name, summed over its labels.
async function metric(name) {
  const page = await (await fetch(URL_.replace(/\/v1$/, "/metrics"))).text();
  const lines = page.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

export async function run(cases) {
  for (const [name, work] of Object.entries(cases)) {
    try {
      await work();
      console.log(JSON.stringify({ case: name, ok: true }));
    } catch (error) {
      console.error(error);
      console.log(JSON.stringify({ case: name, ok: false, why: String(error).slice(0, 300) }));
    }
  }
  process.exit(0);
}
