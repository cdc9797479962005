// What every JavaScript program of the matrix has: where the gateway is, pictures, and how a case is told.
export const { BASE_URL: URL_, MODEL, API_KEY: KEY, STAR, CIRCLE } = process.env;
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
