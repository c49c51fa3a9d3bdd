// SPDX-License-Identifier: Apache-2.0
// Configuration of the OHIF viewer. A classic script: OHIF reads window.config before any module
// could be loaded, so the extension is a stub whose module is imported when OHIF registers it.
(() => {
  let loaded = null;

  const stub = {
    id: 'medreasoner',
    version: '1.0.0',
    async preRegistration(managers) {
      const module = await import('/medreasoner/ohif/extension.js');
      loaded = module.createExtension(managers);
    },
    getPanelModule: () => loaded.getPanelModule(),
    onModeEnter: managers => loaded.onModeEnter(managers),
    onModeExit: () => loaded.onModeExit(),
  };

  // MONAI Label's own panel asks for a server; this one is it.
  if (!document.cookie.includes('MONAILABEL_SERVER_URL=')) {
    const server = encodeURIComponent(`${window.location.origin}/`);
    document.cookie = `MONAILABEL_SERVER_URL=${server}; path=/; SameSite=Lax`;
  }

  const archive = {
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'PACS',
      name: 'PACS',
      qidoRoot: '/proxy/dicom/qido',
      wadoRoot: '/proxy/dicom/wado',
      wadoUriRoot: '/proxy/dicom/wado',
      qidoSupportsIncludeField: true,
      supportsReject: false,
      supportsFuzzyMatching: true,
      supportsWildcard: true,
      imageRendering: 'wadors',
      thumbnailRendering: 'wadors',
      enableStudyLazyLoad: false,
      dicomUploadEnabled: false,
      bulkDataURI: { enabled: true },
    },
  };

  window.config = {
    routerBasename: '/ohif/',
    showStudyList: true,
    extensions: [stub],
    modes: [],
    showWarningMessageForCrossOrigin: true,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    useSharedArrayBuffer: 'FALSE',
    investigationalUseDialog: { option: 'never' },
    defaultDataSourceName: archive.sourceName,
    dataSources: [archive],
  };
})();
