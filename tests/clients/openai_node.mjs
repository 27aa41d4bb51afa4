// The openai SDK for JavaScript.
import OpenAI from 'openai';
import { CITY, KEY, MODEL, SAID, remembers, run } from './checks.mjs';

const sdk = url => new OpenAI({ baseURL: url, apiKey: KEY, maxRetries: 0 });
const user = content => ({ role: 'user', content });
const say = (url, text, more) => sdk(url).chat.completions.create({ model: MODEL, messages: [user(text)], ...more });
const weather = { type: 'function', function: { name: 'weather', parameters: CITY, parse: JSON.parse, function: async () => 'sunny' } };

await run({
  async chat(url) { return (await say(url, 'Hello')).usage.total_tokens && (await sdk(url).responses.create({ model: MODEL, input: 'Hello' })).output_text.includes('Hello'); },
  async stream(url) {
    const chat = sdk(url).chat.completions.stream({ model: MODEL, messages: [user('Hello')], stream_options: { include_usage: true } });
    const response = sdk(url).responses.stream({ model: MODEL, input: 'Hello' });
    return (await chat.finalContent()).includes('Hello') && (await chat.totalUsage()).total_tokens && (await response.finalResponse()).output_text.includes('Hello');
  },
  async history(url) {
    const messages = [], said = [];
    for (const text of SAID) { messages.push(user(text)); messages.push((await sdk(url).chat.completions.create({ model: MODEL, messages })).choices[0].message); said.push(messages.at(-1).content); }
    let last; const chained = [];
    for (const text of SAID) { const made = await sdk(url.replace('/v1', '-chain/v1')).responses.create({ model: MODEL, input: text, previous_response_id: last }); last = made.id; chained.push(made.output_text); }
    return remembers(said) && remembers(chained);
  },
  async tools(url) { return (await sdk(url).chat.completions.runTools({ model: MODEL, messages: [user('Weather in Paris?')], tools: [weather] }).finalContent()).includes('sunny'); },
  async structured(url) { return JSON.parse((await say(url, 'A city', { response_format: { type: 'json_schema', json_schema: { name: 'City', schema: CITY } } })).choices[0].message.content).city; },
  async errors(url) { try { await say(url, 'x', { n: 2 }); } catch (e) { return e.code === 'unsupported_parameter'; } },
  async cancel(url) {
    const c = sdk(url); let id, kind, stopping;
    for await (const e of await c.responses.create({ model: MODEL, input: 'long', background: true, stream: true })) { id ??= e.response?.id; kind = e.type; if (kind === 'response.output_text.delta') stopping ??= c.responses.cancel(id); }
    await stopping;
    return kind === 'response.completed' && (await c.responses.retrieve(id)).status === 'cancelled';
  },
  async resume(url) {
    const c = sdk(url); let id, last, text = '';
    for await (const e of await c.responses.create({ model: MODEL, input: 'long', background: true, stream: true })) { id ??= e.response?.id; last = e.sequence_number; if (e.type === 'response.output_text.delta') { text += e.delta; break; } }
    for await (const e of await c.responses.retrieve(id, { stream: true, starting_after: last })) if (e.type === 'response.output_text.delta') text += e.delta;
    return text === (await c.responses.retrieve(id)).output_text;
  },
});
