// The same as checks.py, for JavaScript.
import { randomUUID } from 'node:crypto';

export const KEY = 'none', MODEL = 'demo';
export const SAID = ['My name is Ada.', 'I live in Paris.', 'What is my name?'];
export const CITY = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
export const remembers = answers => answers.length === 3 && answers.every((text, n) => text.includes(`(${n + 1} so far)`));

export async function run(checks) {
  for (const [check, f] of Object.entries(checks)) {
    const url = process.env.CHAT_URL.replace('{chat}', `client-${randomUUID().slice(0, 12)}`);
    let problem;
    try { problem = (await f(url)) ? '' : 'no'; } catch (e) { problem = `${e?.constructor?.name}: ${String(e?.message).slice(0, 300)}`; }
    console.log(JSON.stringify({ check, problem }));
  }
  process.exit(0);
}
