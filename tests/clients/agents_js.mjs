// @openai/agents: its default model class, which uses Responses.
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';
import { KEY, MODEL, SAID, remembers, run } from './checks.mjs';

setTracingDisabled(true);
const agent = more => new Agent({ name: 'A', instructions: 'Be brief.', model: MODEL, ...more });
const start = (url, ...rest) => new Runner({ modelProvider: new OpenAIProvider({ openAIClient: new OpenAI({ baseURL: url, apiKey: KEY, maxRetries: 0 }) }) }).run(...rest);
const weather = tool({ name: 'weather', description: 'Weather of a city', parameters: z.object({ city: z.string() }), execute: async () => 'sunny' });

await run({
  chat: async url => (await start(url, agent(), 'Hello')).finalOutput.includes('Hello'),
  stream: async url => { const result = await start(url, agent(), 'Hello', { stream: true }); for await (const _ of result); await result.completed; return result.finalOutput.includes('Hello'); },
  history: async url => {
    const a = agent(), said = []; let items = [];
    for (const text of SAID) { const result = await start(url, a, [...items, { role: 'user', content: text }]); items = result.history; said.push(result.finalOutput); }
    return remembers(said);
  },
  tools: async url => (await start(url, agent({ tools: [weather] }), 'Weather in Paris?')).finalOutput.includes('sunny'),
});
