// @langchain/openai: chat completions and responses.
import { HumanMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { z } from 'zod';
import { KEY, MODEL, SAID, remembers, run } from './checks.mjs';

const models = url => [false, true].map(useResponsesApi => new ChatOpenAI({ model: MODEL, apiKey: KEY, maxRetries: 0, useResponsesApi, configuration: { baseURL: url.replace('/v1', `-${useResponsesApi}/v1`) } }));
const each = async (url, f) => { for (const model of models(url)) if (!(await f(model))) return false; return true; };
const weather = tool(async () => 'sunny', { name: 'weather', description: 'Weather of a city', schema: z.object({ city: z.string() }) });

await run({
  chat: url => each(url, async model => (await model.invoke('Hello')).text.includes('Hello')),
  stream: url => each(url, async model => { let text = ''; for await (const c of await model.stream('Hello')) text += c.text; return text.includes('Hello'); }),
  history: url => each(url, async model => {
    const messages = [], said = [];
    for (const text of SAID) { messages.push(new HumanMessage(text)); messages.push(await model.invoke(messages)); said.push(messages.at(-1).text); }
    return remembers(said);
  }),
  tools: url => each(url, async model => {
    const bound = model.bindTools([weather]), messages = [new HumanMessage('Weather in Paris?')];
    messages.push(await bound.invoke(messages));
    for (const call of messages.at(-1).tool_calls) messages.push(await weather.invoke(call));
    return (await bound.invoke(messages)).text.includes('sunny');
  }),
  cancel: async url => { for await (const _ of await models(url)[0].stream('long')) return true; },
});
