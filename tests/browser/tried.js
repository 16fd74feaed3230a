// What every page of these tests does: try things, and tell its site what came of each.
const result = {};

async function tried(name, work) {
  try {
    result[name] = await work();
  } catch (error) {
    result[name] = String(error);
  }
}

async function tell() {
  await fetch("/result", { method: "POST", body: JSON.stringify(result) });
}
