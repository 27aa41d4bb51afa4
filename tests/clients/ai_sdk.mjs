// Vercel's AI SDK: Responses (its default), chat completions, and the provider for compatible APIs.
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import * as ai from 'ai';
import { z } from 'zod';
import { KEY, MODEL, SAID, remembers, run } from './checks.mjs';

const models = url => {
  const openai = n => createOpenAI({ baseURL: url.replace('/v1', `-${n}/v1`), apiKey: KEY });
  return [openai(0)(MODEL), openai(1).chat(MODEL), createOpenAICompatible({ name: 'c', baseURL: url.replace('/v1', '-2/v1'), apiKey: KEY })(MODEL)];
};
const each = async (url, f) => { for (const model of models(url)) if (!(await f(model))) return false; return true; };
const ask = (model, more) => ai.generateText({ model, maxRetries: 0, ...more });
const weather = ai.tool({ description: 'Weather of a city', inputSchema: z.object({ city: z.string() }), execute: async () => 'sunny' });
const after = ai.isStepCount ?? ai.stepCountIs;

await run({
  chat: url => each(url, async model => (await ask(model, { prompt: 'Hello' })).text.includes('Hello')),
  stream: url => each(url, async model => { let text = ''; for await (const t of ai.streamText({ model, prompt: 'Hello', maxRetries: 0 }).textStream) text += t; return text.includes('Hello'); }),
  history: url => each(url, async model => {
    const messages = [], said = [];
    for (const text of SAID) { messages.push({ role: 'user', content: text }); const made = await ask(model, { messages }); messages.push(...(made.responseMessages ?? made.response.messages)); said.push(made.text); }
    return remembers(said);
  }),
  tools: url => each(url, async model => (await ask(model, { prompt: 'Weather in Paris?', tools: { weather }, stopWhen: after(3) })).text.includes('sunny')),
  structured: async url => (await ask(models(url)[0], { prompt: 'A city', output: ai.Output.object({ schema: z.object({ city: z.string() }) }) })).output.city,
  errors: async url => { try { await ask(models(url)[1], { prompt: 'x', providerOptions: { openai: { logprobs: true } } }); } catch (e) { return e.statusCode === 400; } },
  cancel: async url => { const stop = new AbortController(); let n = 0; try { for await (const _ of ai.streamText({ model: models(url)[0], prompt: 'long', abortSignal: stop.signal, onError() {} }).textStream) if (++n === 2) stop.abort(); } catch (e) { if (e.name !== 'AbortError') throw e; } return n >= 2; },
});
